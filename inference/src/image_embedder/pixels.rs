//! A column of images as the tensor that a model takes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, UInt8Type};
use arrow::error::ArrowError;

use super::ImageDecoder;
use super::processor::Processor;
use super::resample::{CHANNELS, RgbImage};
use crate::onnx_model::RunError;
use crate::onnx_model::feed::{Found, name_of, read, shape_text};
use crate::tensor_type::{TensorType, item};

const WHITE: f64 = 255.0;

/// The batch, whose column `images` has pixels if it had images as they lie in files.
pub(super) fn decoded(
    batch: &RecordBatch,
    images: &str,
    decoder: Option<&ImageDecoder>,
) -> Result<RecordBatch, RunError> {
    let encoded = batch.schema_ref().index_of(images).ok();
    let encoded = encoded.filter(|&index| is_encoded(batch.column(index).data_type()));
    let (Some(index), Some(decoder)) = (encoded, decoder) else {
        return Ok(batch.clone());
    };
    let column = batch
        .project(&[index])
        .map_err(|source| RunError::Assemble {
            source: Arc::new(source),
        })?;
    decoder(&column).map_err(|error| RunError::Decode {
        column: images.to_owned(),
        message: error.message,
        is_of_rows: error.is_of_rows,
    })
}

/// Bytes, or a struct that has them, as Hugging Face's `datasets` has images.
fn is_encoded(kind: &DataType) -> bool {
    match kind {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => true,
        DataType::Struct(fields) => fields
            .iter()
            .any(|field| field.name() == "bytes" && is_encoded(field.data_type())),
        _ => false,
    }
}

/// The column `images` of `batch` as the column `name`: prepared pixels of the type `element`. A row without an image has none.
pub(super) fn prepared(
    batch: &RecordBatch,
    images: &str,
    processor: &Processor,
    (name, element): (&str, &DataType),
) -> Result<RecordBatch, RunError> {
    let unfit = |found: String, fix: &'static str| RunError::Images {
        column: images.to_owned(),
        found,
        fix,
    };
    let index = batch.schema_ref().index_of(images);
    let index = index.map_err(|_| {
        let names = batch.schema_ref().fields().iter();
        RunError::ColumnMissing {
            input: name.to_owned(),
            column: images.to_owned(),
            available: names.map(|field| field.name().clone()).collect(),
            setting: "column=".to_owned(),
        }
    })?;
    let (field, array) = (batch.schema_ref().field(index), batch.column(index));
    let found = read(field, array).map_err(|found| {
        let fix = match is_encoded(array.data_type()) {
            true => "; nothing decodes images here",
            false => "",
        };
        unfit(found, fix)
    })?;
    if *found.values.data_type() != DataType::UInt8 {
        let kind = format!("tensors of {}", name_of(found.values.data_type()));
        return Err(unfit(kind, "; make them whole numbers from 0 to 255"));
    }
    let size = processor.size();
    let row_values = CHANNELS * size.height * size.width;
    let mut pixels = Vec::with_capacity(array.len() * row_values);
    for row in 0..array.len() {
        if array.is_null(row) {
            pixels.resize(pixels.len() + row_values, 0.0);
            continue;
        }
        let image = image_of(&found, row).map_err(|NoImage { found, fix }| {
            unfit(format!("{found} in row {row} of the batch"), fix)
        })?;
        processor.append(image, &mut pixels);
    }
    let tensor = TensorType {
        values: element.clone(),
        rank: 3,
        shape: Some([CHANNELS, size.height, size.width].map(in_32_bits).into()),
        is_permuted: false,
    };
    tensor_column(name, &tensor, pixels, array).map_err(|source| RunError::Assemble {
        source: Arc::new(source),
    })
}

fn in_32_bits(size: usize) -> i32 {
    i32::try_from(size).unwrap_or(i32::MAX)
}

fn tensor_column(
    name: &str,
    tensor: &TensorType,
    pixels: Vec<f32>,
    images: &ArrayRef,
) -> Result<RecordBatch, ArrowError> {
    let field = tensor.to_field(name, true);
    let values = cast(&Float32Array::from(pixels), &tensor.values)?;
    let DataType::FixedSizeList(_, size) = field.data_type() else {
        unreachable!("a tensor of one shape is a list of a fixed size")
    };
    let item = item(field.data_type()).expect("it is a list");
    let validity = images.nulls().cloned();
    let column = FixedSizeListArray::try_new(Arc::clone(item), *size, values, validity)?;
    RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::new(column)])
}

/// Why a row has none.
#[derive(Debug)]
struct NoImage {
    found: String,
    fix: &'static str,
}

/// The image of a row.
fn image_of(column: &Found, row: usize) -> Result<RgbImage, NoImage> {
    let shape = column.shape(row);
    let unfit = |fix| {
        let found = format!("an image of shape {}", shape_text(shape));
        Err(NoImage { found, fix })
    };
    let (height, width, channels) = match *shape {
        [height, width] => (height, width, 1),
        [height, width, channels] => (height, width, channels),
        _ => return unfit("; there are 2 axes or 3"),
    };
    if height == 0 || width == 0 {
        return unfit("; it has no pixels");
    }
    let range = column.range(row);
    let values = column.values.slice(range.start, range.len());
    if values.null_count() > 0 {
        return Err(NoImage {
            found: "an image with a null inside".to_owned(),
            fix: "",
        });
    }
    let values: &[u8] = values.as_primitive::<UInt8Type>().values();
    let pixels = match channels {
        1 => values.iter().flat_map(|&grey| [grey; CHANNELS]).collect(),
        3 => values.to_vec(),
        4 => {
            let (cells, _) = values.as_chunks::<4>();
            cells.iter().flat_map(|&cell| on_white(cell)).collect()
        }
        _ => return unfit("; there are 1, 3 or 4 channels"),
    };
    Ok(RgbImage {
        height,
        width,
        pixels,
    })
}

/// The color that is seen where white shines through.
fn on_white([red, green, blue, alpha]: [u8; 4]) -> [u8; CHANNELS] {
    let alpha = f64::from(alpha) / WHITE;
    [red, green, blue].map(|value| {
        let seen = alpha * f64::from(value) + (1.0 - alpha) * WHITE;
        seen.round_ties_even() as u8
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::UInt8Array;
    use arrow::datatypes::Field;

    use super::*;

    /// One row with these numbers, in lists of so many in each other.
    fn why_not(values: Vec<Option<u8>>, shape: &[i32]) -> String {
        let mut array: ArrayRef = Arc::new(UInt8Array::from(values));
        for &size in shape.iter().rev() {
            let item = Arc::new(Field::new("item", array.data_type().clone(), true));
            // Only the outermost may be empty.
            let rows = if size == 0 {
                1
            } else {
                array.len() / size as usize
            };
            array = Arc::new(
                FixedSizeListArray::try_new_with_length(item, size, array, None, rows).unwrap(),
            );
        }
        let field = Field::new("image", array.data_type().clone(), true);
        let NoImage { found, fix } = image_of(&read(&field, &array).unwrap(), 0).unwrap_err();
        found + fix
    }

    #[test]
    fn rows_that_are_no_images_say_why() {
        let ones = |count| vec![Some(1); count];
        assert_eq!(
            why_not(ones(3), &[3]),
            "an image of shape [3]; there are 2 axes or 3"
        );
        assert_eq!(
            why_not(ones(8), &[2, 2, 2]),
            "an image of shape [2, 2, 2]; there are 1, 3 or 4 channels"
        );
        assert_eq!(
            why_not(vec![Some(1), None], &[1, 2]),
            "an image with a null inside"
        );
        assert_eq!(
            why_not(ones(0), &[0, 2]),
            "an image of shape [0, 2]; it has no pixels"
        );
    }

    #[test]
    fn missing_column_is_told_with_those_there_are() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("preprocessor_config.json"), "{}").unwrap();
        let processor = Processor::read(folder.path(), "vit").unwrap();
        let numbers: ArrayRef = Arc::new(UInt8Array::from(vec![1]));
        let batch = RecordBatch::try_from_iter([("picture", numbers)]).unwrap();
        let input = ("pixels", &DataType::Float32);
        let error = prepared(&batch, "photo", &processor, input).unwrap_err();
        let said = "from the column `photo`: the input of the step has the columns `picture`; name another by column=";
        assert!(error.to_string().contains(said), "{error}");
    }

    #[test]
    fn white_shines_through() {
        assert_eq!(on_white([10, 20, 30, 255]), [10, 20, 30]);
        assert_eq!(on_white([10, 20, 30, 0]), [255, 255, 255]);
        assert_eq!(on_white([0, 100, 255, 51]), [204, 224, 255]);
    }
}
