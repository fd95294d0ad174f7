"""Pages and cards printed from records, and releases on the Hub; opens no source and imports no generator.

- pages — templates filled with values: `pages.render`
- dataset_card — README.md of a data set: `dataset_card.write_dataset_card`
- covariates — statistics by split and view, and their figures: `covariates.figures`
- datasheet — the seven parts of a datasheet, and licences of sources: `datasheet.datasheet`
- measured — records of measurements beside what they measured: `measured.Measured`
- measured_page — these as a report shows them: `measured_page.heat_maps`, `measured_page.strength_plots`
- croissant — croissant.json, for machines: `croissant.croissant`
- differences — of a document from the one that is derived: `differences.differences`
- contents, responsible — what both print of the files, and of origin, biases and limits: `contents.Contents`,
  `responsible.responsible`
- model_card — README.md of a generator: `model_card.model_card`, `model_card.write_model_card`
- governance — stages of a data set with statements and what is missing, as JSON and page: `governance.Governance`
- report — an HTML page with pictures and tables of a data set: `report.write_report`
- pictures — images and differences inside pages: `pictures.difference_png`
- stored — a written data set as pages show it: `stored.StoredDataSet`
- view_page — an HTML page with statistics of a view: `view_page.write_statistics`
- editions — revisions of the shipped generators: `editions.edition`
- serving — pages of gradio on this machine: `serving.serve_page`
- explorer — counterfactuals, a data set, a leaderboard and an audit in a browser: `explorer.page`
- hub — releases on the Hub
"""
