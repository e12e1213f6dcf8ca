//! Which graph of a folder makes vectors of images, which of its outputs is the vector, and how long that is: known from the files alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow::datatypes::DataType;
use serde::Deserialize;

use super::ImageEmbedderSpec;
use super::processor::{Processor, Size};
use super::resample::CHANNELS;
use crate::config::Pooling;
use crate::error::{LoadError, list};
use crate::model_folder::{named_graph, read_config};
use crate::onnx_model::OnnxPlan;
use crate::onnx_model::element::Element;
use crate::onnx_model::file::{Axis, Interface, Port, PortKind};

/// Where a folder may have it; that of images alone goes before one that may take texts, too.
const GRAPHS: [&str; 4] = [
    "vision_model.onnx",
    "onnx/vision_model.onnx",
    "model.onnx",
    "onnx/model.onnx",
];
/// Outputs that are taken where none is named, the first that is there: a projection, a pooled vector, the states of parts of the image.
const OUTPUTS: [&str; 3] = ["image_embeds", "pooler_output", "last_hidden_state"];
/// What the columns on both sides of the graph are called. Nobody sees them.
pub(super) const PIXELS: &str = "pixels";
const ANSWER: &str = "answer";

/// A graph and what is around it.
#[derive(Debug, Clone)]
pub(super) struct ImagePlan {
    pub(super) graph: OnnxPlan,
    pub(super) processor: Processor,
    /// The type of the pixels.
    pub(super) element: DataType,
    /// How the states of an image's parts become a vector; `None`: the graph has done that.
    pub(super) pooling: Option<Pooling>,
    /// Length of the vectors.
    pub(super) dim: usize,
}

/// The part of `config.json` that counts.
#[derive(Debug, Clone, Default, Deserialize)]
struct ImageConfig {
    #[serde(default)]
    model_type: String,
    hidden_size: Option<usize>,
    projection_dim: Option<usize>,
    /// Of a model that reads texts, too.
    vision_config: Option<VisionConfig>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct VisionConfig {
    hidden_size: Option<usize>,
}

impl ImagePlan {
    pub(super) fn read(spec: &ImageEmbedderSpec) -> Result<Self, LoadError> {
        let folder = &spec.model_dir;
        let config = config_of(folder)?;
        let path = match &spec.onnx_file {
            Some(named) => named_graph(folder, named)?,
            None => graph_of(folder)?,
        };
        let processor = Processor::read(folder, &config.model_type)?;
        let interface = Interface::read(&path).map_err(|source| LoadError::OnnxFile {
            path: path.clone(),
            source: Box::new(source),
        })?;
        let refused = |reason| LoadError::ImageEncoder {
            path: path.clone(),
            reason,
        };
        let (input, element) = input_of(&interface.inputs, processor.size()).map_err(refused)?;
        let output = output_of(&interface.outputs, spec).map_err(refused)?;
        let (pooling, dim) = shape_of(output, spec.pooling, &config).map_err(refused)?;
        let columns = BTreeMap::from([(input.name.clone(), PIXELS.to_owned())]);
        let outputs = [(output.name.clone(), ANSWER.to_owned())];
        Ok(Self {
            graph: OnnxPlan::read(&path, &columns, Some(&outputs))?,
            processor,
            element,
            pooling,
            dim,
        })
    }
}

fn config_of(folder: &Path) -> Result<ImageConfig, LoadError> {
    let path = folder.join("config.json");
    if !path.is_file() {
        return Ok(ImageConfig::default());
    }
    read_config(&path)
}

fn graph_of(folder: &Path) -> Result<PathBuf, LoadError> {
    let found = GRAPHS.iter().map(|name| folder.join(name));
    found
        .into_iter()
        .find(|file| file.is_file())
        .ok_or_else(|| LoadError::ImageEncoder {
            path: folder.to_owned(),
            reason: if folder.is_dir() {
                format!("it has none of {}", GRAPHS.join(", "))
            } else {
                "it is no folder; one holds model.onnx, preprocessor_config.json and config.json"
                    .to_owned()
            },
        })
}

/// The input of pixels and its type.
fn input_of(ports: &[Port], size: Size) -> Result<(&Port, DataType), String> {
    let [input] = ports else {
        let names: Vec<String> = ports.iter().map(|port| port.name.clone()).collect();
        return Err(format!(
            "its inputs are {}, and there are only pixels: export the part that reads images, transformers.CLIPVisionModelWithProjection for \
             a CLIP",
            list(&names)
        ));
    };
    let element = match &input.kind {
        PortKind::Tensor(Element::Float32) => DataType::Float32,
        PortKind::Tensor(Element::Float16) => DataType::Float16,
        PortKind::Tensor(other) => {
            return Err(format!(
                "its input `{}` is of {other}, and pixels are float32 or float16",
                input.name
            ));
        }
        PortKind::Other(kind) => return Err(format!("its input `{}` is {kind}", input.name)),
    };
    let Some(axes) = &input.axes else {
        return Ok((input, element));
    };
    let wanted = [CHANNELS, size.height, size.width];
    let fits = |(axis, wanted): (&Axis, &usize)| match axis {
        Axis::Fixed(found) => found == wanted,
        Axis::Dynamic(_) => true,
    };
    if axes.len() != 4 || !axes[1..].iter().zip(&wanted).all(fits) {
        return Err(format!(
            "its input `{}` has {}, and preprocessor_config.json makes images of {wanted:?}",
            input.name,
            shape(axes)
        ));
    }
    Ok((input, element))
}

fn output_of<'port>(ports: &'port [Port], spec: &ImageEmbedderSpec) -> Result<&'port Port, String> {
    let names: Vec<String> = ports.iter().map(|port| port.name.clone()).collect();
    if let Some(wanted) = &spec.output {
        let named = ports.iter().find(|port| port.name == *wanted);
        return named.ok_or_else(|| {
            format!(
                "it has no output `{wanted}`; its outputs are {}",
                list(&names)
            )
        });
    }
    let fits = |port: &&Port| spec.pooling.is_none() || port.axes.as_ref().map(Vec::len) == Some(3);
    let fitting: Vec<&Port> = ports.iter().filter(fits).collect();
    let known = OUTPUTS
        .iter()
        .find_map(|name| fitting.iter().find(|port| port.name == *name));
    match (known, &fitting[..]) {
        (Some(known), _) => Ok(known),
        (None, [only]) => Ok(only),
        (None, []) if spec.pooling.is_some() => Err(format!(
            "none of its outputs {} has states of an image's parts, which pooling= needs",
            list(&names)
        )),
        (None, _) => Err(format!(
            "its outputs are {}, none of which is called {}; name one by output=",
            list(&names),
            OUTPUTS.join(" or ")
        )),
    }
}

/// How the output becomes a vector, and how long that is.
fn shape_of(
    output: &Port,
    pooling: Option<Pooling>,
    config: &ImageConfig,
) -> Result<(Option<Pooling>, usize), String> {
    let name = &output.name;
    if !matches!(
        output.kind,
        PortKind::Tensor(Element::Float32 | Element::Float16)
    ) {
        return Err(format!("its output `{name}` is not of float32 or float16"));
    }
    let axes = output.axes.as_deref().ok_or_else(|| {
        format!("the file says no shape of its output `{name}`; onnx.shape_inference.infer_shapes adds shapes")
    })?;
    let pooling = match axes.len() {
        2 if pooling.is_some() => {
            return Err(format!(
                "its output `{name}` is a vector for each image, and pooling= is for states of its parts"
            ));
        }
        2 => None,
        3 => Some(pooling.unwrap_or(Pooling::Cls)),
        _ => {
            return Err(format!(
                "its output `{name}` has {}, and a vector for each image, or for each of its parts, is needed",
                shape(axes)
            ));
        }
    };
    let vision = config.vision_config.as_ref();
    let told = match name.as_str() {
        "image_embeds" => config.projection_dim,
        _ => config
            .hidden_size
            .or(vision.and_then(|vision| vision.hidden_size)),
    };
    let fixed = match axes.last() {
        Some(Axis::Fixed(size)) => Some(*size),
        _ => None,
    };
    let dim = fixed.or(told).filter(|&dim| dim > 0);
    dim.map(|dim| (pooling, dim)).ok_or_else(|| {
        format!("neither it nor config.json says how long the vectors of its output `{name}` are; onnx.shape_inference.infer_shapes adds shapes")
    })
}

fn shape(axes: &[Axis]) -> String {
    let axes = axes.iter().map(|axis| match axis {
        Axis::Fixed(size) => size.to_string(),
        Axis::Dynamic(name) if name.is_empty() => "?".to_owned(),
        Axis::Dynamic(name) => name.clone(),
    });
    format!("the shape [{}]", axes.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(
        ports: &[Port],
        output: Option<&str>,
        pooling: Option<Pooling>,
    ) -> Result<(String, Option<Pooling>, usize), String> {
        let spec = ImageEmbedderSpec {
            output: output.map(str::to_owned),
            pooling,
            ..ImageEmbedderSpec::new("m")
        };
        let config = ImageConfig {
            hidden_size: Some(5),
            ..ImageConfig::default()
        };
        let port = output_of(ports, &spec)?;
        let (pooling, dim) = shape_of(port, pooling, &config)?;
        Ok((port.name.clone(), pooling, dim))
    }

    #[test]
    fn vector_is_the_most_finished_output_or_the_one_that_is_named() {
        let all = [
            Port::sample("last_hidden_state", &["N", "50", "8"]),
            Port::sample("pooler_output", &["N", "hidden"]),
            Port::sample("image_embeds", &["N", "4"]),
        ];
        let of = |output, pooling| chosen(&all, output, pooling).unwrap();
        assert_eq!(of(None, None), ("image_embeds".to_owned(), None, 4));
        // The length that the graph does not say stands in config.json.
        assert_eq!(of(Some("pooler_output"), None).2, 5);
        let mean = Some(Pooling::Mean);
        assert_eq!(of(None, mean), ("last_hidden_state".to_owned(), mean, 8));
        let states = of(Some("last_hidden_state"), None);
        assert_eq!(states.1, Some(Pooling::Cls));
        let only = [Port::sample("features", &["N", "7"])];
        assert_eq!(chosen(&only, None, None).unwrap().2, 7);
    }

    #[test]
    fn outputs_that_are_no_vectors_are_refused() {
        let two = [
            Port::sample("a", &["N", "4"]),
            Port::sample("b", &["N", "4"]),
        ];
        let map = [Port::sample("features", &["N", "8", "7", "7"])];
        for (ports, output, pooling, said) in [
            (&two[..], None, None, "name one by output="),
            (&two[..], Some("c"), None, "no output `c`"),
            (&two[..], Some("a"), Some(Pooling::Cls), "pooling= is for"),
            (&two[..], None, Some(Pooling::Cls), "which pooling= needs"),
            (&map[..], None, None, "has the shape [N, 8, 7, 7]"),
            (
                &[Port::sample("image_embeds", &["N", "d"])][..],
                None,
                None,
                "how long",
            ),
        ] {
            let error = chosen(ports, output, pooling).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn input_takes_images_of_the_size_that_they_are_prepared_for() {
        let size = Size {
            height: 32,
            width: 48,
        };
        let of = |ports: &[Port]| input_of(ports, size).map(|(_, element)| element);
        assert_eq!(
            of(&[Port::sample("x", &["N", "3", "h", "48"])]),
            Ok(DataType::Float32)
        );
        for (ports, said) in [
            (
                vec![Port::sample("x", &["N", "3", "48", "32"])],
                "has the shape [N, 3, 48, 32]",
            ),
            (
                vec![Port::sample("x", &["N", "32", "48"])],
                "makes images of [3, 32, 48]",
            ),
            (
                vec![Port::sample("x", &["N"]), Port::sample("input_ids", &["N"])],
                "CLIPVisionModelWithProjection",
            ),
        ] {
            let error = of(&ports).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
