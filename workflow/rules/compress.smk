# Large data sets, one job a part: survey -> ranges -> compress_part -> join -> verify_part -> table.
# The data set is a declared input of `source` alone: Snakemake hashes an input after every job that
# has it. A store is a folder, which it does not hash: its metadata's times count (params.store).
# Surveys and verifications are short: profiles/slurm puts several into one job, one after the other.


resource_scopes:
    in_turn="local",


rule source:
    input:
        of_plan("files"),
    output:
        "results/compressed/{name}/source.txt",
    log:
        "logs/source/{name}.log",
    benchmark:
        "results/benchmarks/source/{name}.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(500),
        runtime=growing(15),
    params:
        path=lambda wildcards: PLANS[wildcards.name].entry["input"],
        store=of_plan("store"),
    message:
        "{wildcards.name} is to be compressed"
    shell:
        "echo '{params.path}' 2>&1 | logged {log} && echo '{params.path}' > {output}"


rule survey:
    input:
        "results/compressed/{name}/source.txt",
    output:
        survey="results/compressed/{name}/survey/{part}.json",
        usage="results/compressed/{name}/usage/survey/{part}.json",
    log:
        "logs/survey/{name}_{part}.log",
    benchmark:
        "results/benchmarks/survey/{name}_{part}.tsv"
    group:
        "survey"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=of_part("memory"),
        runtime=of_part("minutes"),
        in_turn=1,
    params:
        data=of_plan("input_flags"),
        fill=of_plan("fill_flag"),
        part=part_flags,
        code=fingerprint("caesar_freq.compression.survey"),
    message:
        "Statistics of {wildcards.name}, part {wildcards.part}"
    shell:
        "python -m caesar_freq.compression.survey {params.data} {params.fill} {params.part}"
        " --output {output.survey} --usage {output.usage} --asked_mb {resources.mem_mb}"
        " 2>&1 | logged {log}"


rule ranges:
    input:
        of_all_parts("results/compressed/{name}/survey/{part}.json"),
    output:
        "results/compressed/{name}/ranges.json",
    log:
        "logs/ranges/{name}.log",
    benchmark:
        "results/benchmarks/ranges/{name}.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(15),
    params:
        folder=subpath(output[0], parent=True),
        parts=count_parts,
        lossless=of_plan("lossless_flag"),
        code=fingerprint("caesar_freq.compression.ranges"),
    message:
        "Ranges of the variables of {wildcards.name}"
    shell:
        "python -m caesar_freq.compression.ranges --folder {params.folder}/survey"
        " --parts {params.parts} {params.lossless} --output {output} 2>&1 | logged {log}"


rule compress_part:
    input:
        ranges="results/compressed/{name}/ranges.json",
        model=of_plan("model"),
    output:
        cfq="results/compressed/{name}/parts/{part}.cfq",
        usage="results/compressed/{name}/usage/compress/{part}.json",
    log:
        "logs/compress_part/{name}_{part}.log",
    benchmark:
        "results/benchmarks/compress_part/{name}_{part}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=of_part("memory"),
        runtime=of_part("minutes"),
    params:
        data=of_plan("input_flags"),
        fill=of_plan("fill_flag"),
        part=part_flags,
        bound=of_plan("bound_flags"),
        model=of_plan("model_flag"),
        code=fingerprint("caesar_freq.compression.compress"),
    message:
        "Compressing {wildcards.name}, part {wildcards.part}"
    shell:
        "python -m caesar_freq.compression.compress {params.data} {params.fill} {params.part}"
        " --ranges {input.ranges} {params.bound} {params.model} --threads {threads}"
        " --output {output.cfq} --usage {output.usage} --asked_mb {resources.mem_mb}"
        " 2>&1 | logged {log}"


rule join:
    input:
        of_all_parts("results/compressed/{name}/parts/{part}.cfq"),
    output:
        cfq="results/compressed/{name}.cfq",
        receipt="results/compressed/{name}/receipt.json",
        usage="results/compressed/{name}/usage/join/all.json",
    log:
        "logs/join/{name}.log",
    benchmark:
        "results/benchmarks/join/{name}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(60),
    params:
        data=of_plan("input_flags"),
        folder=subpath(output.receipt, parent=True),
        parts=count_parts,
        code=fingerprint("caesar_freq.compression.join"),
    message:
        "Joining the parts of {wildcards.name}"
    shell:
        "python -m caesar_freq.compression.join {params.data} --folder {params.folder}/parts"
        " --parts {params.parts} --receipt {output.receipt} --output {output.cfq}"
        " --usage {output.usage} --asked_mb {resources.mem_mb} 2>&1 | logged {log}"


# The file itself may be too large to be hashed for every job; its receipt stands for it.
rule verify_part:
    input:
        receipt="results/compressed/{name}/receipt.json",
        model=of_plan("model"),
    output:
        errors="results/compressed/{name}/verify/{part}.json",
        usage="results/compressed/{name}/usage/verify/{part}.json",
    log:
        "logs/verify_part/{name}_{part}.log",
    benchmark:
        "results/benchmarks/verify_part/{name}_{part}.tsv"
    group:
        "verify"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=of_part("memory"),
        runtime=of_part("minutes"),
        in_turn=1,
    params:
        data=of_plan("input_flags"),
        part=part_flags,
        file="results/compressed/{name}.cfq",
        model=of_plan("model_flag"),
        code=fingerprint("caesar_freq.compression.verify"),
    message:
        "Decoding and verifying {wildcards.name}, part {wildcards.part}"
    shell:
        "python -m caesar_freq.compression.verify {params.data} {params.part}"
        " --compressed {params.file} {params.model} --threads {threads}"
        " --output {output.errors} --usage {output.usage} --asked_mb {resources.mem_mb}"
        " 2>&1 | logged {log}"


rule compression_table:
    input:
        receipt="results/compressed/{name}/receipt.json",
        errors=of_all_parts("results/compressed/{name}/verify/{part}.json"),
    output:
        json="results/compressed/{name}.json",
        table="results/compressed/{name}.md",
    log:
        "logs/compression_table/{name}.log",
    benchmark:
        "results/benchmarks/compression_table/{name}.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(15),
    params:
        folder=subpath(input.receipt, parent=True),
        parts=count_parts,
        bound=of_plan("bound_flags"),
        code=fingerprint("caesar_freq.compression.table"),
    message:
        "Ratio, errors and memory of {wildcards.name}"
    shell:
        "python -m caesar_freq.compression.table --folder {params.folder}/verify"
        " --parts {params.parts} --receipt {input.receipt} --usage_dir {params.folder}/usage"
        " {params.bound} --output {output.json} 2>&1 | logged {log}"
