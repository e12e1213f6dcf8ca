//! Where rows go, as the methods of a dataset that write, and `count`, say it.

use std::path::PathBuf;

use aktis_data::graph::KeptFunctions;
use aktis_data::storage::StoreSpec;
use aktis_data::{
    FarOutput, FileNames, FilesOutput, JobIdentity, Named, OneOfSeveral, ParquetOutput,
    ParquetWriting, Resume, Sink, SortedBy, Trait,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::jobs::save_mode;
use crate::failure::describe;
use crate::interpreter_end::attached;

/// A sink as a dict: its `kind`, and what that kind needs; and what of a folder that is not local, if there is one.
pub(super) fn read_sink(sink: &Bound<'_, PyDict>) -> PyResult<Sink> {
    let files = read_near_sink(sink)?;
    let Some(far) = sink.get_item("far")?.filter(|far| !far.is_none()) else {
        return Ok(files);
    };
    let (definition, target, replaces, holds_letters): (Vec<u8>, String, bool, bool) =
        far.extract()?;
    let item = |name: &str| sink.as_any().get_item(name)?.extract::<String>();
    Ok(Sink::Far(FarOutput {
        files: Box::new(files),
        folder: item("folder")?,
        prefix: item("prefix")?,
        store: StoreSpec {
            definition: definition.into(),
        },
        target,
        replaces,
        holds_letters,
    }))
}

fn read_near_sink(sink: &Bound<'_, PyDict>) -> PyResult<Sink> {
    let item = |name: &str| -> PyResult<Bound<'_, PyAny>> {
        sink.get_item(name)?
            .ok_or_else(|| PyValueError::new_err(format!("a sink has no {name}")))
    };
    let kind: String = item("kind")?.extract()?;
    if kind == "count" {
        return Ok(Sink::Count);
    }
    if kind == "files" {
        return Ok(Sink::Files(FilesOutput {
            operation: item("operation")?.extract()?,
            definition: item("definition")?.extract::<Vec<u8>>()?.into(),
            folder: item("folder")?.extract()?,
            prefix: item("prefix")?.extract()?,
            partition_columns: item("partition_cols")?.extract()?,
            min_rows_per_file: item("min_rows_per_file")?.extract()?,
            max_writers: item("max_writers")?.extract()?,
            mode: save_mode(&item("mode")?.extract::<String>()?)?,
            names: file_names(item("names")?)?,
            identity: identity(&item)?,
        }));
    }
    let sorted_by: Vec<(i32, bool, bool)> = item("sorting_columns")?.extract()?;
    let sorted_by = sorted_by
        .into_iter()
        .map(|(column, is_descending, has_nulls_first)| SortedBy {
            column,
            is_descending,
            has_nulls_first,
        });
    Ok(Sink::Parquet(ParquetOutput {
        folder: item("folder")?.extract()?,
        prefix: item("prefix")?.extract()?,
        partition_columns: item("partition_cols")?.extract()?,
        writing: ParquetWriting {
            compression: item("compression")?.extract()?,
            level: item("compression_level")?.extract()?,
            row_group_rows: item("row_group_size")?.extract()?,
            has_dictionary: item("use_dictionary")?.extract()?,
            has_statistics: item("write_statistics")?.extract()?,
            page_bytes: item("data_page_size")?.extract()?,
            sorted_by: sorted_by.collect(),
        },
        min_rows_per_file: item("min_rows_per_file")?.extract()?,
        min_bytes_per_file: item("min_bytes_per_file")?.extract()?,
        max_rows_per_file: item("max_rows_per_file")?.extract()?,
        max_writers: item("max_writers")?.extract()?,
        mode: save_mode(&item("mode")?.extract::<String>()?)?,
        names: file_names(item("names")?)?,
        identity: identity(&item)?,
    }))
}

/// The function that names files, if there is one: of task, number and name of each.
fn file_names(function: Bound<'_, PyAny>) -> PyResult<Option<FileNames>> {
    if function.is_none() {
        return Ok(None);
    }
    let function = function.unbind();
    Ok(Some(FileNames::new(move |files: Vec<Named>| {
        attached(|py| {
            let files: Vec<_> = files
                .iter()
                .map(|file| (file.task, file.number, file.name.as_str()))
                .collect();
            let names = || -> PyResult<Vec<String>> { function.call1(py, (files,))?.extract(py) };
            names().map_err(|error| describe(py, &error, "filename_provider", None).failure)
        })
    })))
}

/// What tells a job from others, as names and values.
pub(super) type Traits = Vec<(String, String)>;

pub(super) fn read_traits(traits: Traits) -> Vec<Trait> {
    let traits = traits.into_iter();
    traits.map(|(name, value)| Trait { name, value }).collect()
}

/// What tells the job from others, whether it is taken up, of several outputs of it, which this is, with the folders of all, and what
/// is kept on the way.
fn identity<'py>(
    item: &impl Fn(&str) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Option<JobIdentity>> {
    let traits: Option<Traits> = item("identity")?.extract()?;
    let Some(traits) = traits else {
        return Ok(None);
    };
    let together: Option<(usize, Vec<PathBuf>)> = item("together")?.extract()?;
    Ok(Some(JobIdentity {
        traits: read_traits(traits),
        takes_up: item("takes_up")?.extract()?,
        together: together.map(|(place, folders)| OneOfSeveral { place, folders }),
        kept: kept_functions(item("keeps_all")?.extract()?),
    }))
}

/// What is kept of what functions make, where rows of different inputs meet.
pub(super) fn kept_functions(keeps_all: bool) -> KeptFunctions {
    if keeps_all {
        KeptFunctions::All
    } else {
        KeptFunctions::Expensive
    }
}

/// `"auto"`, or whether an unfinished job must be taken up.
pub(super) fn read_resume(resume: &Bound<'_, PyAny>) -> PyResult<Resume> {
    Ok(match resume.extract::<bool>() {
        Ok(true) => Resume::Demanded,
        Ok(false) => Resume::Never,
        Err(_) => Resume::Auto,
    })
}
