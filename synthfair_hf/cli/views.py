"""The verb of biased views."""

import json
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from ..errors import InputError, counted
from .output import next_command
from .settings import Preset, VerbSettings

__all__ = ["Views"]


class Views(VerbSettings):
    """List biased views, say exactly what one keeps and how it is loaded, or write a page of its statistics."""

    verb = "views"
    example = "--view sex_imbalanced_85_15"
    library_names: ClassVar = {"name": "view"}
    preset: Preset = "chest_xray"
    view: str | None = Field(None, description="one view, curated or not, such as sex_imbalanced_85_15")
    data_dir: Path | None = Field(None, description="data set whose views are meant; its own preset counts")
    output_dir: Path | None = Field(None, description="write a page of counts on a view of data_dir here")

    def run(self) -> int:
        from ..views.builder import read_record
        from ..views.preset import load_preset
        from ..views.shares import Train, listed_views, promised_shares, realised_shares, unmet_views
        from ..views.view import get_view, uncurated_views

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
            return 0
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
            return 0
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
        return 0
