//! How Parquet files are written: what `pyarrow.parquet.write_table` calls its options.

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use super::spec::{SortedBySpec, WritingSpec};

/// The level of brotli where none is given, as in pyarrow: that of the library is for speed, which nobody chooses this codec for.
const BROTLI_LEVEL: u32 = 8;

/// How files are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParquetWriting {
    /// `snappy`, `zstd`, `lz4`, `gzip`, `brotli` or `none`.
    pub compression: String,
    /// How hard to compress, for codecs that have a choice; `None`: as the codec likes.
    pub level: Option<i32>,
    /// Rows per row group at most; `None`: by size.
    pub row_group_rows: Option<u64>,
    /// Whether values that come again are written once.
    pub has_dictionary: bool,
    /// Whether files tell the least and the largest values of their parts.
    pub has_statistics: bool,
    /// Bytes of a page, about; `None`: as the library likes.
    pub page_bytes: Option<u64>,
    /// The order that rows have, which files tell their readers; rows are not brought into it.
    pub sorted_by: Vec<SortedBy>,
}

impl Default for ParquetWriting {
    fn default() -> Self {
        Self {
            compression: "snappy".to_owned(),
            level: None,
            row_group_rows: None,
            has_dictionary: true,
            has_statistics: true,
            page_bytes: None,
            sorted_by: Vec::new(),
        }
    }
}

/// A column by which rows are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SortedBy {
    /// Its place among the columns of the file that are no lists or structs, these counted by their fields.
    pub column: i32,
    /// Large values come first.
    pub is_descending: bool,
    /// So do nulls.
    pub has_nulls_first: bool,
}

impl ParquetWriting {
    pub(super) fn spec(&self) -> WritingSpec {
        let sorted_by = self.sorted_by.iter().map(|by| SortedBySpec {
            column: by.column,
            is_descending: by.is_descending,
            has_nulls_first: by.has_nulls_first,
        });
        WritingSpec {
            compression: self.compression.clone(),
            level: self.level,
            row_group_rows: self.row_group_rows.unwrap_or(0),
            has_no_dictionary: !self.has_dictionary,
            has_no_statistics: !self.has_statistics,
            page_bytes: self.page_bytes.unwrap_or(0),
            sorted_by: sorted_by.collect(),
        }
    }
}

/// What files are written with.
pub(super) fn properties(writing: Option<&WritingSpec>) -> Result<WriterProperties, TaskFailure> {
    let default = ParquetWriting::default().spec();
    let writing = writing.unwrap_or(&default);
    let positive = |value: u64| usize::try_from(value).ok().filter(|&value| value > 0);
    let mut properties = WriterProperties::builder()
        .set_compression(compression(&writing.compression, writing.level)?)
        .set_max_row_group_row_count(positive(writing.row_group_rows))
        .set_dictionary_enabled(!writing.has_no_dictionary)
        // As Parquet has it: dates of 64 bits would be plain numbers for everybody but Arrow's Rust readers.
        .set_coerce_types(true)
        .set_created_by(format!("aktis {}", env!("CARGO_PKG_VERSION")));
    if writing.has_no_statistics {
        properties = properties.set_statistics_enabled(EnabledStatistics::None);
    }
    if let Some(bytes) = positive(writing.page_bytes) {
        properties = properties.set_data_page_size_limit(bytes);
    }
    if !writing.sorted_by.is_empty() {
        let sorted_by = writing.sorted_by.iter().map(|by| SortingColumn {
            column_idx: by.column,
            descending: by.is_descending,
            nulls_first: by.has_nulls_first,
        });
        properties = properties.set_sorting_columns(Some(sorted_by.collect()));
    }
    Ok(properties.build())
}

fn compression(name: &str, level: Option<i32>) -> Result<Compression, TaskFailure> {
    let codec = match name {
        "" | "snappy" => Compression::SNAPPY,
        "none" => Compression::UNCOMPRESSED,
        "zstd" => return zstd(level).map_err(|error| refused(name, &error)),
        "gzip" => return gzip(level).map_err(|error| refused(name, &error)),
        "lz4" => Compression::LZ4_RAW,
        "brotli" => return brotli(level).map_err(|error| refused(name, &error)),
        _ => {
            let why = "it must be snappy, zstd, gzip, brotli, lz4 or none";
            return Err(refused(name, &why));
        }
    };
    if level.is_some() {
        let why = "only zstd, gzip and brotli have a compression_level";
        return Err(refused(name, &why));
    }
    Ok(codec)
}

fn zstd(level: Option<i32>) -> Result<Compression, ParquetError> {
    let level = level.map_or(Ok(ZstdLevel::default()), ZstdLevel::try_new)?;
    Ok(Compression::ZSTD(level))
}

fn gzip(level: Option<i32>) -> Result<Compression, ParquetError> {
    let checked = |level: i32| GzipLevel::try_new(not_negative(level));
    let level = level.map_or(Ok(GzipLevel::default()), checked)?;
    Ok(Compression::GZIP(level))
}

fn brotli(level: Option<i32>) -> Result<Compression, ParquetError> {
    let level = BrotliLevel::try_new(level.map_or(BROTLI_LEVEL, not_negative))?;
    Ok(Compression::BROTLI(level))
}

/// A negative level is none that these codecs know.
fn not_negative(level: i32) -> u32 {
    u32::try_from(level).unwrap_or(u32::MAX)
}

fn refused(name: &str, why: &dyn std::fmt::Display) -> TaskFailure {
    let message = format!("write_parquet(compression={name:?}): {why}");
    TaskFailure::new(ErrorCode::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(name: &str, level: Option<i32>) -> Result<WriterProperties, TaskFailure> {
        let writing = ParquetWriting {
            compression: name.to_owned(),
            level,
            ..ParquetWriting::default()
        };
        properties(Some(&writing.spec()))
    }

    #[test]
    fn codecs_have_levels_or_say_that_they_have_none() {
        let path = parquet::schema::types::ColumnPath::from("x");
        let zstd = built("zstd", Some(9)).expect("has levels");
        let level = ZstdLevel::try_new(9).expect("is one");
        assert_eq!(zstd.compression(&path), Compression::ZSTD(level));
        for (given, has) in [(None, 8), (Some(3), 3)] {
            let brotli = built("brotli", given).expect("has levels");
            let level = BrotliLevel::try_new(has).expect("is one");
            assert_eq!(brotli.compression(&path), Compression::BROTLI(level));
        }
        for (name, level, why) in [
            ("lz4", Some(1), "only zstd, gzip and brotli"),
            ("gzip", Some(77), "0..=9"),
            ("gzip", Some(-1), "0..=9"),
            ("brotli", Some(12), "0..=11"),
            ("brotli", Some(-1), "0..=11"),
            ("rar", None, "must be snappy"),
        ] {
            let failure = built(name, level).expect_err("is refused");
            assert!(failure.message.contains(why), "{failure}");
            assert!(failure.message.contains(name), "{failure}");
        }
    }
}
