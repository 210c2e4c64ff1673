"""poreseg: from raw images and outlined pores to masks, scores and a page.

snakemake --cores all
snakemake --cores all --config study=PATH results=PATH
"""

import os

from poreseg.build import begin, finish
from poreseg.drawn import study as demo
from poreseg.devices import gpu_percent, gpus
from poreseg.images.companions import companions
from poreseg.plan import planned, sources


configfile: "params.yaml"


# Waiting threads yield their core to others, e.g. the worker that prepares crops.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


plan = planned(config)
at = plan.at


wildcard_constraints:
    image="[^/]+",
    fold=r"\d+",


localrules:
    all,


rule all:
    default_target: True
    input:
        at("report/index.html"),
        at("tracked.json"),
        at("porosity.csv"),
        expand(at("masks/{image}.tif"), image=plan.study.names),
        expand(at("overlays/{image}.png"), image=plan.study.names),
        expand(at("polygons/{image}.geojson"), image=plan.study.names),


if plan.is_demo:

    rule demo:
        input:
            sources("demo"),
        output:
            demo.files(plan.study.folder),
        log:
            at("logs/demo.log"),
        script:
            "workflow/scripts/demo.py"


rule ingest:
    input:
        sources("ingest"),
        image=lambda w: str(plan.study[w.image].image),
        companions=lambda w: companions(plan.study[w.image].image),
    output:
        raster=at("rasters/{image}.tif"),
    log:
        at("logs/ingest/{image}.log"),
    params:
        settings=plan.settings("ingest"),
        sample=lambda w: plan.reading(w.image),
    script:
        "workflow/scripts/ingest.py"


rule rasterise:
    input:
        sources("rasterise"),
        # a label file for several images is tracked by its `part`, a param, not by its mtime
        labels=lambda w: [
            ancient(str(label)) if plan.study[w.image].part else str(label)
            for label in plan.study[w.image].labels
        ],
        companions=lambda w: [
            part for label in plan.study[w.image].labels for part in companions(label)
        ],
        raster=at("rasters/{image}.tif"),
    output:
        label=at("labels/{image}.tif"),
    log:
        at("logs/rasterise/{image}.log"),
    params:
        settings=plan.settings("rasterise"),
        image=lambda w: plan.study[w.image].image.name,
        plane=lambda w: plan.study[w.image].plane,
        part=lambda w: plan.study[w.image].part,
    script:
        "workflow/scripts/rasterise.py"


rule tile:
    input:
        sources("tile"),
        label=at("labels/{image}.tif"),
    output:
        table=at("tiles/{image}.csv"),
    log:
        at("logs/tile/{image}.log"),
    params:
        settings=plan.settings("tile"),
    script:
        "workflow/scripts/tile.py"


rule tile_all:
    input:
        sources("tile_all"),
        tables=expand(at("tiles/{image}.csv"), image=plan.study.for_training),
    output:
        table=at("tiles.csv"),
    log:
        at("logs/tile_all.log"),
    params:
        split=plan.split_table(plan.study.for_training),
    script:
        "workflow/scripts/tile_all.py"


rule augment:
    input:
        sources("augment"),
        tiles=at("tiles.csv"),
        rasters=expand(at("rasters/{image}.tif"), image=plan.study.for_training),
        labels=expand(at("labels/{image}.tif"), image=plan.study.for_training),
    output:
        pipeline=at("augment/pipeline.json"),
        sheet=at("augment/contact-sheet.png"),
    log:
        at("logs/augment.log"),
    params:
        settings=plan.settings("augment"),
    script:
        "workflow/scripts/augment.py"


rule baseline:
    input:
        sources("baseline"),
        rasters=expand(at("rasters/{image}.tif"), image=plan.study.labelled),
        labels=expand(at("labels/{image}.tif"), image=plan.study.labelled),
    output:
        table=at("baselines.csv"),
    log:
        at("logs/baseline.log"),
    threads: workflow.cores
    params:
        settings=plan.settings("baseline"),
        split=plan.split_table(plan.study.labelled),
    script:
        "workflow/scripts/baseline.py"


rule encoder:
    input:
        sources("encoder"),
        file=plan.params.encoder.file or [],
    output:
        weights=at("encoder/weights.safetensors"),
        card=at("encoder/encoder.json"),
    log:
        at("logs/encoder.log"),
    params:
        settings=plan.settings("encoder"),
    script:
        "workflow/scripts/encoder.py"


rule pretrain:
    input:
        sources("pretrain"),
        encoder_weights=at("encoder/weights.safetensors"),
        encoder_card=at("encoder/encoder.json"),
    output:
        card=at("encoder/pretrained/poreseg.json"),
        weights=at("encoder/pretrained/model.safetensors"),
        history=at("encoder/pretrained/history.csv"),
    log:
        at("logs/pretrain.log"),
    threads: workflow.cores
    resources:
        gpu_percent=gpu_percent(),
        workers=plan.params.pretrain.workers,
    params:
        settings=plan.settings("pretrain"),
    script:
        "workflow/scripts/pretrain.py"


rule train:
    input:
        tiles=at("tiles.csv"),
        rasters=expand(at("rasters/{image}.tif"), image=plan.study.for_training),
        labels=expand(at("labels/{image}.tif"), image=plan.study.for_training),
        pipeline=at("augment/pipeline.json"),
        encoder_card=at("encoder/encoder.json"),
        start=plan.start,
        sources=sources("train"),
    output:
        card=at("model/fold-{fold}/poreseg.json"),
        config=at("model/fold-{fold}/config.json"),
        weights=at("model/fold-{fold}/model.safetensors"),
        history=at("history/fold-{fold}.csv"),
    log:
        at("logs/train/fold-{fold}.log"),
    threads: max(1, workflow.cores // max(1, len(gpus())))
    resources:
        gpu_percent=gpu_percent(),
        workers=plan.params.train.workers,
    params:
        settings=plan.settings("train"),
        checkpoints=at(".checkpoints"),
        study=plan.study.folder.name,
    script:
        "workflow/scripts/train.py"


rule refit:
    input:
        tiles=at("tiles.csv"),
        rasters=expand(at("rasters/{image}.tif"), image=plan.study.for_training),
        labels=expand(at("labels/{image}.tif"), image=plan.study.for_training),
        pipeline=at("augment/pipeline.json"),
        encoder_card=at("encoder/encoder.json"),
        start=at("model/fold-0/model.safetensors"),
        sources=sources("refit"),
    output:
        card=at("model/all/poreseg.json"),
        config=at("model/all/config.json"),
        weights=at("model/all/model.safetensors"),
        history=at("history/all.csv"),
    log:
        at("logs/refit.log"),
    threads: workflow.cores
    resources:
        gpu_percent=gpu_percent(),
        workers=plan.params.train.workers,
    params:
        settings=plan.settings("train") | plan.settings("refit"),
        checkpoints=at(".checkpoints"),
    script:
        "workflow/scripts/refit.py"


rule predict:
    input:
        sources("predict"),
        raster=at("rasters/{image}.tif"),
        cards=lambda w: expand("{model}/poreseg.json", model=plan.models_of(w.image)),
        weights=lambda w: expand(
            "{model}/model.safetensors", model=plan.models_of(w.image)
        ),
    output:
        probabilities=at("probabilities/{image}.tif"),
    log:
        at("logs/predict/{image}.log"),
    threads: max(1, workflow.cores // min(max(4, len(gpus())), len(plan.study.names)))
    resources:
        gpu_percent=gpu_percent(),
    params:
        settings=plan.settings("predict"),
    script:
        "workflow/scripts/predict.py"


rule segment:
    input:
        sources("segment"),
        probabilities=at("probabilities/{image}.tif"),
        raster=at("rasters/{image}.tif"),
    output:
        mask=at("masks/{image}.tif"),
        overlay=at("overlays/{image}.png"),
        polygons=at("polygons/{image}.geojson"),
    log:
        at("logs/segment/{image}.log"),
    params:
        pixel_size_um=lambda w: plan.study[w.image].pixel_size_um,
        settings=plan.settings("segment"),
    script:
        "workflow/scripts/segment.py"


rule evaluate:
    input:
        sources("evaluate"),
        masks=expand(at("masks/{image}.tif"), image=plan.study.labelled),
        probabilities=expand(at("probabilities/{image}.tif"), image=plan.study.labelled),
        labels=expand(at("labels/{image}.tif"), image=plan.study.labelled),
        baselines=at("baselines.csv"),
        encoder_card=at("encoder/encoder.json"),
    output:
        metrics=at("metrics.json"),
        scores=at("scores.csv"),
        curve=at("thresholds.csv"),
        calibration=at("calibration.csv"),
    log:
        at("logs/evaluate.log"),
    params:
        split=plan.split_table(plan.study.labelled),
        specimens=[plan.study[image].specimen for image in plan.study.labelled],
        min_area_px=plan.params.segment.min_area_px,
        connectivity=plan.params.measure.connectivity,
    script:
        "workflow/scripts/evaluate.py"


rule errors:
    input:
        sources("errors"),
        rasters=expand(at("rasters/{image}.tif"), image=plan.study.labelled),
        masks=expand(at("masks/{image}.tif"), image=plan.study.labelled),
        labels=expand(at("labels/{image}.tif"), image=plan.study.labelled),
    output:
        maps=expand(at("errors/{image}.png"), image=plan.study.labelled),
        sheet=at("worst-tiles.png"),
    log:
        at("logs/errors.log"),
    params:
        settings=plan.settings("tile"),
        split=plan.split_table(plan.study.labelled),
    script:
        "workflow/scripts/errors.py"


rule measure:
    input:
        sources("measure"),
        mask=at("masks/{image}.tif"),
    output:
        table=at("pores/{image}.csv"),
    log:
        at("logs/measure/{image}.log"),
    params:
        settings=plan.settings("measure"),
    script:
        "workflow/scripts/measure.py"


rule measure_all:
    input:
        sources("measure_all"),
        masks=expand(at("masks/{image}.tif"), image=plan.study.names),
        tables=expand(at("pores/{image}.csv"), image=plan.study.names),
    output:
        porosity=at("porosity.csv"),
        sizes=at("pore-sizes.csv"),
        specimens=at("specimens.csv"),
    log:
        at("logs/measure_all.log"),
    params:
        names=plan.study.names,
        samples=plan.specimens_and_roles,
    script:
        "workflow/scripts/measure_all.py"


rule report:
    input:
        sources("report"),
        "src/poreseg/analysis/report.html.j2",
        rasters=expand(at("rasters/{image}.tif"), image=plan.study.names),
        masks=expand(at("masks/{image}.tif"), image=plan.study.names),
        labels=expand(at("labels/{image}.tif"), image=plan.study.labelled),
        metrics=at("metrics.json"),
        scores=at("scores.csv"),
        curve=at("thresholds.csv"),
        calibration=at("calibration.csv"),
        worst=at("worst-tiles.png"),
        porosity=at("porosity.csv"),
        specimens=at("specimens.csv"),
        sizes=at("pore-sizes.csv"),
        histories=plan.histories,
        cards=plan.cards,
        sheet=at("augment/contact-sheet.png"),
    output:
        page=at("report/index.html"),
    log:
        at("logs/report.log"),
    params:
        settings=plan.settings("report"),
        study=str(plan.study.folder),
    script:
        "workflow/scripts/report.py"


rule track:
    input:
        metrics=at("metrics.json"),
        scores=at("scores.csv"),
        porosity=at("porosity.csv"),
        page=at("report/index.html"),
        overlays=expand(at("overlays/{image}.png"), image=plan.study.names),
        cards=plan.cards,
    output:
        record=at("tracked.json"),
    log:
        at("logs/track.log"),
    params:
        params=plan.params.model_dump(mode="json"),
    script:
        "workflow/scripts/track.py"


onstart:
    begin(plan)


onsuccess:
    finish(plan)
