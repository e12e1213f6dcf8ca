//! For tests of steps: tensors to compare.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use candle_core::{Device, Tensor};

pub(crate) fn noise(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count)
        .map(|index| ((index * 7919) % 1000) as f32 / 250.0 - 2.0)
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

pub(crate) fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

pub(crate) fn assert_close(ours: &Tensor, theirs: &Tensor) {
    assert_eq!(ours.dims(), theirs.dims());
    for (ours, theirs) in numbers(ours).iter().zip(numbers(theirs)) {
        assert!((ours - theirs).abs() < 5e-6, "{ours} and {theirs}");
    }
}
