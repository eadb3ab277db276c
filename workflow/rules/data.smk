rule fetch:
    output:
        directory("data/raw/{source}"),
    log:
        "logs/fetch/{source}.log",
    benchmark:
        "results/benchmarks/fetch/{source}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        code=fingerprint("caesar_freq.data.fetch", lazy=False),
    message:
        "Fetching or simulating {wildcards.source}"
    shell:
        "python -m caesar_freq.data.fetch {wildcards.source} --output_dir {output}"
        " 2>&1 | logged {log}"


rule split:
    input:
        raw_inputs,
    output:
        train="data/processed/{dataset}/train.npz",
        val="data/processed/{dataset}/val.npz",
        test="data/processed/{dataset}/test.npz",
        manifest="data/processed/{dataset}/manifest.json",
    log:
        "logs/split/{dataset}.log",
    benchmark:
        "results/benchmarks/split/{dataset}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        flags=split_flags,
        code=fingerprint("caesar_freq.split"),
        folder=subpath(output.train, parent=True),
        files=split_files,
    message:
        "Splitting {wildcards.dataset} without leakage"
    shell:
        "python -m caesar_freq.split --inputs {params.files} {params.flags}"
        " --output_dir {params.folder} 2>&1 | logged {log}"
