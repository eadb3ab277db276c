rule report:
    input:
        records=expand("results/raw/{job}.json", job=library.evaluation_jobs(config)),
        histories=[
            rules.train_freq_compressor.output.history,
            rules.train_diffusion.output.history,
            rules.train_distillation.output.history,
        ],
        manifests=rules.merge.input.manifests,
        card=rules.merge.output.card,
    output:
        html=report(
            "results/report.html", caption="../report/report.rst", category="Results"
        ),
        csv=report(
            "results/tables/summary.csv",
            caption="../report/summary.rst",
            category="Results",
        ),
        table="results/tables/summary.md",
    log:
        "logs/report.log",
    benchmark:
        "results/benchmarks/report.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        code=fingerprint("caesar_freq.report", lazy=False),
        folder=subpath(output.html, parent=True),
    message:
        "Tables and report"
    shell:
        "python -m caesar_freq.report --results {input.records} --histories {input.histories}"
        " --manifests {input.manifests} --output_dir {params.folder} 2>&1 | logged {log}"
