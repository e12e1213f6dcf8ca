//! Parquet files as one table, also where their columns differ.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion_common::Result;
use datafusion_expr::{Expr, TableProviderFilterPushDown, TableSource};

use crate::columns::{self, Misfit};
use crate::error::PlanError;
use crate::sources::looks::{Looks, check_columns};
use crate::storage::{
    DataFile, FileFooter, PathColumns, StoreSpec, read_footers, read_footers_here, told_columns,
};

/// Parquet files.
#[derive(Debug, Clone)]
pub struct ParquetTable {
    /// Where they lie.
    pub(crate) store: StoreSpec,
    /// The files in order, with their row groups.
    pub files: Vec<FileFooter>,
    /// The columns: those of all files, by name, each of the type that all of its values fit into, and then those that only
    /// their paths tell.
    pub schema: SchemaRef,
    /// The columns that paths tell.
    pub partitions: Vec<String>,
    /// Columns of files that paths tell, too.
    pub(super) told_twice: Vec<String>,
    /// What paths may tell.
    pub(crate) told: PathColumns,
    /// The columns that files have themselves, each kind once.
    pub(crate) file_schemas: Vec<SchemaRef>,
    /// Which of `file_schemas` each file has.
    schema_of: Vec<u32>,
    pub(super) looks: Looks,
}

impl ParquetTable {
    /// The table of `files`. Fails if a column has no type in common.
    pub fn new(
        store: StoreSpec,
        files: Vec<FileFooter>,
        told: PathColumns,
    ) -> Result<Self, PlanError> {
        let mut file_schemas: Vec<SchemaRef> = Vec::new();
        let mut schema_of = Vec::with_capacity(files.len());
        for file in &files {
            // Files that differ come in runs, so the last kind is the likeliest.
            let known = file_schemas.iter().rposition(|known| *known == file.schema);
            let index = known.unwrap_or_else(|| {
                file_schemas.push(Arc::clone(&file.schema));
                file_schemas.len() - 1
            });
            schema_of.push(u32::try_from(index).expect("fewer than 2^32 files"));
        }
        let mut table = Self {
            store,
            files,
            schema: Arc::new(Schema::empty()),
            partitions: Vec::new(),
            told_twice: Vec::new(),
            told,
            file_schemas,
            schema_of,
            looks: Looks::new(),
        };
        let schema = table.unified()?;
        if told.has_path && schema.field_with_name(PathColumns::PATH).is_ok() {
            return Err(PlanError::InvalidArgument(
                "read_parquet(include_paths=True): the files have a column 'path' of their own; rename it in them, or leave \
                 include_paths out"
                    .to_owned(),
            ));
        }
        let paths = table.files.iter().map(|file| file.file.path.as_str());
        let columns = told_columns(told, paths, &schema);
        (table.partitions, table.told_twice) = (columns.beside, columns.twice);
        table.schema = with_partitions(&schema, &table.partitions);
        Ok(table)
    }

    /// The table with those of its files that are `true`.
    pub(crate) fn with_files(&self, kept: &[bool]) -> Self {
        let are_kept = kept.iter().copied();
        let files = self.files.iter().zip(are_kept.clone());
        let schemas = self.schema_of.iter().zip(are_kept);
        Self {
            store: self.store.clone(),
            files: files
                .filter(|(_, is_kept)| *is_kept)
                .map(|(file, _)| file.clone())
                .collect(),
            schema: Arc::clone(&self.schema),
            partitions: self.partitions.clone(),
            told_twice: self.told_twice.clone(),
            told: self.told,
            file_schemas: self.file_schemas.clone(),
            schema_of: schemas
                .filter(|(_, is_kept)| *is_kept)
                .map(|(&of, _)| of)
                .collect(),
            looks: self.looks.clone(),
        }
    }

    /// The table of its files as they are now, if one of them has changed.
    pub(super) fn again(&self) -> Result<Option<Self>, PlanError> {
        let known = || self.files.iter().map(|file| &file.file);
        let Some(now) = self.looks.again(&self.store, known())? else {
            return Ok(None);
        };
        let changed = known().zip(now).filter(|(before, now)| *before != now);
        let changed: Vec<DataFile> = changed.map(|(_, now)| now).collect();
        let mut read = footers_of(&self.store, &changed)?.into_iter().peekable();
        let footer = |known: &FileFooter| {
            let is_read = read
                .peek()
                .is_some_and(|now| now.file.path == known.file.path);
            is_read
                .then(|| read.next())
                .flatten()
                .unwrap_or_else(|| known.clone())
        };
        let files = self.files.iter().map(footer).collect();
        let mut table = Self::new(self.store.clone(), files, self.told)?;
        check_columns("read_parquet()", &self.schema, &table.schema)?;
        table.schema = Arc::clone(&self.schema);
        Ok(Some(table))
    }

    /// Rows of all files.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(FileFooter::rows).sum()
    }

    /// Which of `file_schemas` the file at `index` has.
    pub(crate) fn schema_of(&self, index: usize) -> u32 {
        self.schema_of[index]
    }

    /// Whether rows of all files are rows of the table as they are.
    pub(crate) fn is_uniform(&self) -> bool {
        self.partitions.is_empty()
            && self.told_twice.is_empty()
            && self
                .file_schemas
                .iter()
                .all(|schema| *schema == self.schema)
    }

    /// The columns of all files, without those that only paths tell.
    pub(super) fn unified(&self) -> Result<SchemaRef, PlanError> {
        let mut kinds = self.file_schemas.iter();
        let mut schema = kinds
            .next()
            .map_or_else(|| Arc::new(Schema::empty()), Arc::clone);
        for kind in kinds {
            schema = columns::unify(&schema, kind).map_err(|misfit| self.misfit(&misfit, kind))?;
        }
        Ok(schema)
    }

    /// Names a file that `kind` does not go with, and a file of that kind.
    fn misfit(&self, misfit: &Misfit, kind: &SchemaRef) -> PlanError {
        let path_of = |schema: &SchemaRef| {
            let index = self.file_schemas.iter().position(|known| known == schema);
            let file = self
                .schema_of
                .iter()
                .position(|&of| Some(of as usize) == index);
            file.map_or("", |file| self.files[file].file.path.as_str())
        };
        let direct = self
            .file_schemas
            .iter()
            .find_map(|other| Some((other, columns::unify(other, kind).err()?)));
        let (other, misfit) = match &direct {
            Some((other, misfit)) => (path_of(other), misfit.as_ref()),
            None => ("the files before it", misfit),
        };
        let between = misfit.between(&format!("in {other}"), &format!("in {}", path_of(kind)));
        PlanError::InvalidArgument(format!(
            "read_parquet(): {between}; read such files separately, or write them anew with one type"
        ))
    }
}

/// The footers of files.
pub(super) fn footers_of(
    store: &StoreSpec,
    files: &[DataFile],
) -> Result<Vec<FileFooter>, PlanError> {
    if store.definition.is_empty() {
        let paths: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
        return read_footers_here(&paths);
    }
    read_footers(&store.open(0).map_err(PlanError::Store)?, files)
}

/// The columns of files, and behind them those that only their paths tell.
pub(super) fn with_partitions(schema: &SchemaRef, partitions: &[String]) -> SchemaRef {
    if partitions.is_empty() {
        return Arc::clone(schema);
    }
    let column = |name: &String| -> FieldRef { Arc::new(Field::new(name, DataType::Utf8, true)) };
    let own = schema.fields().iter().cloned();
    let fields: Vec<FieldRef> = own.chain(partitions.iter().map(column)).collect();
    Arc::new(Schema::new(fields))
}

/// The reader evaluates a filter row by row while it decodes, but only over flat columns.
pub(super) fn pushed_down(schema: &Schema, filters: &[&Expr]) -> Vec<TableProviderFilterPushDown> {
    let is_flat = |name: &str| {
        let field = schema.field_with_name(name);
        field.is_ok_and(|field| !field.data_type().is_nested())
    };
    let exact = |filter: &&Expr| {
        let columns = filter.column_refs();
        let is_exact = !columns.is_empty()
            && columns.iter().all(|column| is_flat(&column.name))
            && !filter.is_volatile();
        if is_exact {
            TableProviderFilterPushDown::Exact
        } else {
            TableProviderFilterPushDown::Unsupported
        }
    };
    filters.iter().map(exact).collect()
}

impl TableSource for ParquetTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(pushed_down(&self.schema, filters))
    }
}
