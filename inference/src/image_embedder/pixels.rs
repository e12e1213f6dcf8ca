//! A column of images as the tensor that a model takes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, UInt8Type};
use arrow::error::ArrowError;

use super::processor::Processor;
use super::resample::{CHANNELS, RgbImage};
use crate::onnx_model::RunError;
use crate::onnx_model::feed::{Found, name_of, read, shape_text};
use crate::tensor_type::{TensorType, item};

const WHITE: f64 = 255.0;

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
    let index = index.map_err(|_| unfit("no such column in the batch".to_owned(), ""))?;
    let (field, array) = (batch.schema_ref().field(index), batch.column(index));
    let found = read(field, array).map_err(|found| {
        let is_encoded = matches!(
            array.data_type(),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView
        );
        unfit(found, if is_encoded { ENCODED } else { "" })
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
        let image = image_of(&found, row).ok_or_else(|| {
            let shape = shape_text(found.shape(row));
            let found = format!("an image of shape {shape} in row {row} of the batch");
            unfit(found, "; there are 1, 3 or 4 channels")
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

const ENCODED: &str = "; aktis.data.read_images() decodes files, and a function of yours that calls Pillow what lies in a column";

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

/// The image of a row; `None`: it is none.
fn image_of(column: &Found, row: usize) -> Option<RgbImage> {
    let (height, width, channels) = match *column.shape(row) {
        [height, width] => (height, width, 1),
        [height, width, channels] => (height, width, channels),
        _ => return None,
    };
    let range = column.range(row);
    let values = column.values.slice(range.start, range.len());
    if height == 0 || width == 0 || values.null_count() > 0 {
        return None;
    }
    let values: &[u8] = values.as_primitive::<UInt8Type>().values();
    let pixels = match channels {
        1 => values.iter().flat_map(|&grey| [grey; CHANNELS]).collect(),
        3 => values.to_vec(),
        4 => {
            let (cells, _) = values.as_chunks::<4>();
            cells.iter().flat_map(|&cell| on_white(cell)).collect()
        }
        _ => return None,
    };
    Some(RgbImage {
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
    use super::*;

    #[test]
    fn white_shines_through() {
        assert_eq!(on_white([10, 20, 30, 255]), [10, 20, 30]);
        assert_eq!(on_white([10, 20, 30, 0]), [255, 255, 255]);
        assert_eq!(on_white([0, 100, 255, 51]), [204, 224, 255]);
    }
}
