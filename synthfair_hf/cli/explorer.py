"""Verbs by which a data set is looked at: its views, a report of it, and the page in a browser that explores it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from ..errors import InputError, counted
from ..records import strictest
from ..views.preset import load_preset
from ..views.shares import Train, listed_views, promised_shares, realised_shares, unmet_views
from ..views.view import get_view, uncurated_views
from .output import next_command
from .settings import Generator, Preset, VerbSettings
from .words import Positional

if TYPE_CHECKING:
    from ..diffusion.saved import SavedGenerator
    from ..publish.stored import StoredDataSet

__all__ = ["App", "Report", "Views"]


class Views(VerbSettings):
    """List biased views, say exactly what one keeps and how it is loaded, or write a page of its statistics."""

    verb = "views"
    example = "--view sex_imbalanced_85_15"
    library_names: ClassVar = {"name": "view"}
    preset: Preset = "chest_xray"
    view: str | None = Field(None, description="one view, curated or not, such as sex_imbalanced_85_15")
    data_dir: Path | None = Field(None, description="data set whose views are meant; its own preset counts")
    output_dir: Path | None = Field(None, description="write a page of counts on a view of data_dir here")

    def run(self) -> None:
        from ..views.builder import read_record

        if self.output_dir is not None and self.data_dir is None:
            raise InputError("data_dir: not given; output_dir is for a page of counts, so give a data set to count.")
        if self.data_dir is None:
            domain, train = load_preset(self.preset), None
        else:
            record, domain = read_record(str(self.data_dir))
            train = Train.of(domain, record.settings)
        if self.data_dir is not None and self.output_dir is not None:
            from ..publish.view_page import write_statistics

            name = self.view
            told = {name: realised_shares(get_view(name, domain), train)} if name else unmet_views(domain, train)
            for one_name, shares in told.items():
                if shares:
                    print(f"{one_name}: {shares}")
            print(f"wrote {write_statistics(self.data_dir, name or 'full', self.output_dir)}")
            return
        listed = listed_views(domain, train)
        if self.view is None:
            for one in listed:
                print(f"{one.name:36} {promised_shares(one)}")
            if train is not None and (unmet := unmet_views(domain, train)):
                subjects = counted(sum(train.sizes), "subject")
                print(f"not listed, for {subjects} of train cannot give the shares of {len(unmet)}: {', '.join(unmet)}")
            reasons: dict[str, list[str]] = {}
            for name, why in uncurated_views(domain).items():
                reasons.setdefault(why, []).append(name)
            for why, names in reasons.items():
                print(f"not listed, for {why}: {', '.join(names)}")
            which = ("--preset", self.preset) if self.data_dir is None else ("--data_dir", self.data_dir)
            print(next_command("views", *which, "--view", "NAME"))
            return
        one = get_view(self.view, domain)
        print(f"{one.name}\n{one.sentence}\nfilters: {json.dumps(one.filters_for_parquet())}")
        if shares := realised_shares(one, train):
            print(f"here: {shares}")
        if one.label is not None:
            print(f"{one.label.column}: {one.label.variable}, but {json.dumps(one.label.changes)}")
        print(f"twin: {one.twin}\nrecipe: {one.fingerprint}")
        # a bare name is answered from any cache
        place = "./synthfair" if self.data_dir is None else str(self.data_dir.absolute())
        if one.label is None and one.name in {other.name for other in listed}:
            print(f"load: load_dataset({place!r}, {one.name!r})")
        else:
            how = f"import synthfair_hf; load_dataset('synthfair', {one.name!r}, data_dir={place!r})"
            print(f"load: {how}  # not in the card")


class Report(VerbSettings):
    """Write a page with pictures and tables about a data set."""

    verb = "report"
    example = "synthfair"
    directory: Annotated[Path, Positional("DIR")] = Field(description="data set that `synthfair generate` wrote")

    def run(self) -> None:
        from ..publish.report import write_report

        print(f"wrote {write_report(self.directory)}")


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

    def run(self) -> None:
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
            _write_space(self, self.output_dir, saved, data_set)
            return
        predictor = self.predictor
        if predictor is None and self.pretrained_model_name_or_path is None:
            predictor = DEFAULT_GENERATOR.with_name("chest_xray_findings_judge_128")

        from ..diffusion.loaded import LoadedGenerator
        from ..measure.predictors import predict_images

        predict = None if predictor is None else predict_images(predictor, saved.preset.covariates, saved.resolution)
        explored = Explored(LoadedGenerator(saved), predict, data_set, leaderboard, audit)
        explore(explored, lambda address: print(f"{address} (Ctrl-C ends)", flush=True), self.port, self.host)


def _write_space(settings: App, output_dir: Path, saved: "SavedGenerator", data_set: "StoredDataSet | None") -> None:
    from ..measure.predictors import SavedPredictor
    from ..publish.explorer.space import write_space
    from ..publish.serving import import_gradio
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
