"""What is observed, and where images come from: presets, sources, and worlds whose true mechanism is known.

- preset — a domain as data: `preset.Preset`, `preset.Contrast`, `preset.Network`
- preset_file — a domain as a YAML file: `preset_file.read_preset`, `preset_file.preset_yaml`
- contexts — what differs between images beside covariates: `contexts.Contexts`, `contexts.read_contexts`
- draft — a preset drafted from a table: `draft.draft_preset`
- prompts — prompts of text-to-image generators: `prompts.render_prompt`, `prompts.why_no_template`
- presets — the domains by name: `presets.PRESETS`, `presets.get_preset`
- source — images with covariates and patients: `source.Source`, `source.read_image`, `source.patient_split`
- imagefolder — a folder with a metadata.csv: `imagefolder.ImageFolder`
- images — files of images, by decoders that are listed: `images.open_image`, `images.FORMATS`
- findings — which one is meant, and what data sets call them: `findings.choose_finding`, `findings.labels_of`
- cells — columns that can't be read, and lost levels: `cells.check_readable`, `cells.absent_levels`
- rows — tables in CSV: `rows.read_rows`
- readers — data sets in their own layouts, and how a folder is read: `readers.Reader`, `readers.DataSetFolder`
- hub_dataset — data sets of Hugging Face's library: `hub_dataset.store_images`
- ingest — one cleaned data set of any source: `ingest.ingest`, `ingest.estimate`
- ingested — its form, and how it is read back: `ingested.read_metadata`, `ingested.pseudonym`
- journal — the key, and what a run has done, beside it: `journal.Journal`
- values — ages, views and labels as they are published: `values.published`, `values.label`
- dicom — radiographs in DICOM files: `dicom.read_dicom`
- joined — several sources as one, with a site: `joined.JoinedFolders`, `joined.JoinedSource`
- nifti, orientation — slices of volumes, and how a patient lies in a picture: `nifti.read_nifti`, `orientation.upright`
- registry — every data set that can be opened: `registry.open_source`, `registry.READERS`
- drawn — worlds that are drawn, subject by subject: `drawn.DrawnWorld`, `drawn.DrawnSource`, `drawn.Equations`
- oracle — a drawn world with the interface of a generator: `oracle.Oracle`
- worlds — observations with exact counterfactuals: `worlds.World`, `worlds.open_world`, `worlds.WORLDS`
- chest_xray, dermatology, brain_mri, faces, phantom, morphomnist — one folder per domain
"""
