rule merge:
    input:
        freq=rules.train_freq_compressor.output.model,
        teacher=rules.train_diffusion.output.model,
        student=rules.train_distillation.output.model,
        manifests=expand("data/processed/{dataset}/manifest.json", dataset=DATASETS),
    output:
        model="checkpoints/combined_model.pth",
        tensors="checkpoints/model.safetensors",
        card="checkpoints/model_card.md",
    log:
        "logs/merge.log",
    benchmark:
        "results/benchmarks/merge.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(15),
    params:
        code=fingerprint("caesar_freq.merge"),
    message:
        "Merging the checkpoints of the three phases"
    shell:
        "python -m caesar_freq.merge --freq_compressor_path {input.freq}"
        " --diffusion_path {input.teacher} --distillation_path {input.student}"
        " --manifests {input.manifests} --output {output.model} 2>&1 | logged {log}"
