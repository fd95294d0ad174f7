"""The verb that shows everything in a browser, or writes the Space that does."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from .settings import Generator, VerbSettings

if TYPE_CHECKING:
    from ..diffusion.saved import SavedGenerator
    from ..publish.stored import StoredDataSet

__all__ = ["App"]


class App(VerbSettings):
    """Explore counterfactuals, a data set, a leaderboard and an audit in a browser."""

    verb = "app"
    example = "--data_dir synthfair"
    library_names: ClassVar = {"directory": "data_dir"}
    pretrained_model_name_or_path: Generator = None
    predictor: Path | None = Field(
        None,
        description="directory that `synthfair predictor` wrote, for attributes before and after; the shipped one for "
        "the shipped generator",
    )
    data_dir: Path | None = Field(None, description="data set to browse, a directory that `synthfair generate` wrote")
    leaderboard: Path | None = Field(None, description="directory that `synthfair benchmark` wrote")
    audit: Path | None = Field(None, description="directory that `synthfair audit` wrote")
    host: str = Field("127.0.0.1", description="address at which it listens; 0.0.0.0 opens it to other machines")
    port: int | None = Field(None, ge=0, le=65535, description="of the page; a free one by default")
    output_dir: Path | None = Field(
        None, alias="write_space", description="serve no page, but write the files of a Space of the Hub that does"
    )

    def run(self) -> int:
        from ..diffusion.saved import DEFAULT_GENERATOR, find_generator
        from ..publish.explorer.figures import Audit, Leaderboard
        from ..publish.explorer.page import Explored, explore
        from ..publish.serving import check_host, import_gradio
        from ..publish.stored import StoredDataSet

        import_gradio("app")
        check_host(self.host)
        saved = find_generator(self.pretrained_model_name_or_path or DEFAULT_GENERATOR)
        leaderboard = None if self.leaderboard is None else Leaderboard(self.leaderboard)
        audit = None if self.audit is None else Audit(self.audit)
        data_set = None if self.data_dir is None else StoredDataSet.read(self.data_dir)
        if self.output_dir is not None:
            return _write_space(self, self.output_dir, saved, data_set)
        predictor = self.predictor
        if predictor is None and self.pretrained_model_name_or_path is None:
            predictor = DEFAULT_GENERATOR.with_name("chest_xray_findings_judge_128")

        from ..diffusion.loaded import LoadedGenerator
        from ..measure.predictors import predict_images

        predict = None if predictor is None else predict_images(predictor, saved.preset.covariates, saved.resolution)
        explored = Explored(LoadedGenerator(saved), predict, data_set, leaderboard, audit)
        explore(explored, lambda address: print(f"{address} (Ctrl-C ends)", flush=True), self.port, self.host)
        return 0


def _write_space(settings: App, output_dir: Path, saved: "SavedGenerator", data_set: "StoredDataSet | None") -> int:
    from ..measure.predictors import SavedPredictor
    from ..publish.explorer.space import write_space
    from ..publish.serving import import_gradio
    from ..records import strictest
    from ..views.builder import access_of

    generator, accesses = settings.pretrained_model_name_or_path, [saved.access]
    options: list[str] = []
    copied: dict[str, dict[str, Path]] = {}

    def copy(flag: str, part: str, directory: Path, patterns: Iterable[str]) -> None:
        found = sorted(path for pattern in patterns for path in directory.glob(pattern))
        copied[part] = {path.relative_to(directory).as_posix(): path for path in found}
        options.extend((flag, part))

    if generator is not None and Path(generator).is_dir():
        copy("--pretrained_model_name_or_path", "generator", saved.directory, (*saved.files, "record.json"))
    elif generator is not None:
        options += ["--pretrained_model_name_or_path", generator]
    if settings.predictor is not None:
        accesses.append(SavedPredictor(settings.predictor).access)
        copy("--predictor", "predictor", settings.predictor, ("*.json", "*.safetensors"))
    if settings.data_dir is not None and data_set is not None:
        accesses.append(access_of(data_set.record))
        copy("--data_dir", "data_set", settings.data_dir, ("README.md", "data/**/*.parquet", "records/*.json"))
    if settings.leaderboard is not None:
        copy("--leaderboard", "leaderboard", settings.leaderboard, ("benchmark.json", "figures.csv"))
    if settings.audit is not None:
        copy("--audit", "audit", settings.audit, ("audit.json",))
    # where a Space is asked
    options += ["--host", "0.0.0.0", "--port", "7860"]
    version = import_gradio("app").__version__
    write_space(output_dir, saved.preset.title, options, copied, strictest(*accesses), version)
    print(f"wrote {output_dir}: app.py, requirements.txt, README.md{''.join(f', {part}/' for part in copied)}")
    return 0
