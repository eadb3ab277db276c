rule evaluate:
    input:
        data="data/processed/{dataset}/test.npz",
        model=model_input,
    output:
        "results/raw/{dataset}/{codec}_{criterion}_{target}.json",
    log:
        "logs/evaluate/{dataset}_{codec}_{criterion}_{target}.log",
    benchmark:
        "results/benchmarks/evaluate/{dataset}_{codec}_{criterion}_{target}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        flags=evaluation_flags,
        code=lambda wildcards: evaluation_code(wildcards.codec),
    message:
        "{wildcards.codec} on {wildcards.dataset}, {wildcards.criterion} {wildcards.target}"
    shell:
        "python -m caesar_freq.evaluate --data {input.data} --dataset {wildcards.dataset}"
        " --codec {wildcards.codec} {params.flags} --output {output} 2>&1 | logged {log}"
