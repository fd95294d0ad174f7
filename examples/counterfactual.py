"""Sample three people from the causal model, then generate counterfactuals of their radiographs."""

import torch

from synthfair_hf.diffusion.generator import load_generator


def main() -> None:
    """Write counterfactuals.png: observation, do(sex), do(effusion), do(scanner), one person per row."""
    from PIL import Image

    pipeline = load_generator()
    generators = [torch.Generator().manual_seed(seed) for seed in range(3)]
    covariates = pipeline.covariates.decode(
        {name: column.numpy() for name, column in pipeline.scm.sample(3, generators).items()}
    )
    people = pipeline(covariates=covariates, generator=generators)
    interventions = [
        {"sex": "female", "effusion": covariates["effusion"]},
        {"effusion": "present"},
        {"scanner": "portable"},
    ]
    columns = [people.images]
    for do in interventions:
        counterfactuals = pipeline(covariates=covariates, noise=people.noise, do=do, generator=generators)
        columns.append(counterfactuals.images)
        print(do, "->", counterfactuals.covariates)
    side = columns[0][0].width
    sheet = Image.new("L", (side * len(columns), side * 3))
    for column, images in enumerate(columns):
        for row, image in enumerate(images):
            sheet.paste(image, (column * side, row * side))
    sheet.save("counterfactuals.png")


if __name__ == "__main__":
    main()
