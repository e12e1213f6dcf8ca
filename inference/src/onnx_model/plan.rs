//! Which column each input takes, and which columns come of the outputs: known from the file alone, before anything is loaded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};

use super::element::Element;
use super::error::RunError;
use super::file::{Axis, Interface, Port, PortKind};
use crate::error::{LoadError, list};
use crate::tensor_type::TensorType;

/// Where a folder has its graph.
const GRAPHS: [&str; 2] = ["model.onnx", "onnx/model.onnx"];

/// An ONNX graph over columns.
#[derive(Debug, Clone)]
pub struct OnnxPlan {
    /// The graph's file.
    pub graph: PathBuf,
    /// Other files that its weights lie in.
    pub weight_files: Vec<PathBuf>,
    /// What it takes.
    pub inputs: Vec<GraphInput>,
    /// What is wanted of what it gives.
    pub outputs: Vec<GraphOutput>,
    /// Rows of each run, where the graph fixes them.
    pub fixed_rows: Option<usize>,
}

/// An input and its column.
#[derive(Debug, Clone)]
pub struct GraphInput {
    /// The graph's name of it.
    pub name: String,
    /// The column that it takes.
    pub column: String,
    pub(super) element: Element,
    /// Those of a row; `None`: any.
    pub(super) axes: Option<Vec<Axis>>,
}

/// An output and its column.
#[derive(Debug, Clone)]
pub struct GraphOutput {
    /// The graph's name of it.
    pub name: String,
    /// The column that it becomes.
    pub field: FieldRef,
    pub(super) element: Element,
    /// Those of a row.
    pub(super) axes: Vec<Axis>,
}

impl GraphInput {
    /// What the column has does not fit.
    pub(super) fn unfit(&self, found: impl Into<String>, fix: &'static str) -> RunError {
        RunError::Unfit {
            input: self.name.clone(),
            column: self.column.clone(),
            expected: described(self.element, self.axes.as_deref()),
            found: found.into(),
            fix,
        }
    }
}

impl GraphOutput {
    pub(super) fn described(&self) -> String {
        described(self.element, Some(&self.axes))
    }

    /// The shape of every row, if it is the same for all.
    pub(super) fn row_shape(&self) -> Option<Vec<usize>> {
        fixed_shape(&self.axes)
    }
}

/// `float32 of shape [rows, 3, width]`.
fn described(element: Element, axes: Option<&[Axis]>) -> String {
    let Some(axes) = axes else {
        return format!("{element} of any shape");
    };
    let axes: Vec<String> = axes
        .iter()
        .map(|axis| match axis {
            Axis::Fixed(size) => size.to_string(),
            Axis::Dynamic(name) if name.is_empty() => "?".to_owned(),
            Axis::Dynamic(name) => name.clone(),
        })
        .collect();
    let rows = ["rows".to_owned()].into_iter().chain(axes);
    format!(
        "{element} of shape [{}]",
        rows.collect::<Vec<_>>().join(", ")
    )
}

fn fixed_shape(axes: &[Axis]) -> Option<Vec<usize>> {
    axes.iter()
        .map(|axis| match axis {
            Axis::Fixed(size) if *size > 0 => Some(*size),
            _ => None,
        })
        .collect()
}

impl OnnxPlan {
    /// Reads the file at `path`, or the one of a folder. `columns`: of inputs that are not called as their columns are. `outputs`: those
    /// that are wanted with their columns; `None`: all.
    pub fn read(
        path: &Path,
        columns: &BTreeMap<String, String>,
        outputs: Option<&[(String, String)]>,
    ) -> Result<Self, LoadError> {
        let graph = graph_of(path)?;
        let interface = Interface::read(&graph).map_err(|source| LoadError::OnnxFile {
            path: graph.clone(),
            source: Box::new(source),
        })?;
        let unsuitable = |reason| LoadError::OnnxColumns {
            path: graph.clone(),
            reason,
        };
        let inputs = inputs_of(&interface.inputs, columns).map_err(unsuitable)?;
        let (outputs, taken) = outputs_of(&interface.outputs, outputs).map_err(unsuitable)?;
        let taken_twice = outputs.iter().find(|output| {
            inputs
                .iter()
                .any(|input| input.column == *output.field.name())
        });
        if let Some(output) = taken_twice {
            return Err(unsuitable(format!(
                "its output `{}` and an input are both the column `{}`; inputs are kept, so give the output another name by outputs={{...}}",
                output.name,
                output.field.name()
            )));
        }
        let fixed_rows = fixed_rows(&interface.inputs, &taken).map_err(unsuitable)?;
        let folder = graph.parent().unwrap_or_else(|| Path::new(""));
        let files = interface.weight_files.iter();
        let weight_files: Vec<PathBuf> = files.map(|file| folder.join(file)).collect();
        if let Some(missing) = weight_files.iter().find(|file| !file.is_file()) {
            return Err(LoadError::OnnxWeights {
                path: graph,
                missing: missing.clone(),
            });
        }
        Ok(Self {
            graph,
            weight_files,
            inputs,
            outputs,
            fixed_rows,
        })
    }
}

fn graph_of(path: &Path) -> Result<PathBuf, LoadError> {
    if path.is_file() {
        return Ok(path.to_owned());
    }
    let found = GRAPHS.iter().map(|name| path.join(name));
    found
        .into_iter()
        .find(|file| file.is_file())
        .ok_or_else(|| LoadError::NoGraph {
            path: path.to_owned(),
            found: if path.is_dir() {
                "it is a folder without model.onnx and onnx/model.onnx"
            } else {
                "there is nothing"
            },
        })
}

fn inputs_of(
    ports: &[Port],
    columns: &BTreeMap<String, String>,
) -> Result<Vec<GraphInput>, String> {
    let names: Vec<String> = ports.iter().map(|port| port.name.clone()).collect();
    if let Some(unknown) = columns.keys().find(|name| !names.contains(name)) {
        return Err(format!(
            "it has no input `{unknown}`; its inputs are {}",
            list(&names)
        ));
    }
    if ports.is_empty() {
        return Err("it has no inputs, so it has nothing to do with rows".to_owned());
    }
    let inputs = ports.iter().map(|port| {
        let (element, axes) = tensor_of("input", port)?;
        Ok(GraphInput {
            column: columns.get(&port.name).unwrap_or(&port.name).clone(),
            name: port.name.clone(),
            element,
            axes: axes.map(|axes| axes[1..].to_vec()),
        })
    });
    inputs.collect()
}

fn outputs_of<'port>(
    ports: &'port [Port],
    wanted: Option<&[(String, String)]>,
) -> Result<(Vec<GraphOutput>, Vec<&'port Port>), String> {
    let names: Vec<String> = ports.iter().map(|port| port.name.clone()).collect();
    let all: Vec<(String, String)> = names
        .iter()
        .map(|name| (name.clone(), name.clone()))
        .collect();
    let (mut outputs, mut taken) = (Vec::<GraphOutput>::new(), Vec::new());
    for (name, column) in wanted.unwrap_or(&all) {
        let port = ports.iter().find(|port| port.name == *name);
        let port = port.ok_or_else(|| {
            format!(
                "it has no output `{name}`; its outputs are {}",
                list(&names)
            )
        })?;
        if outputs.iter().any(|output| output.field.name() == column) {
            return Err(format!(
                "two of its outputs are to be the column `{column}`; name them by outputs={{...}}"
            ));
        }
        let unwanted = |reason: String| match wanted {
            None if ports.len() > 1 => {
                format!("{reason}; outputs=[...] names those that are wanted")
            }
            _ => reason,
        };
        let (element, axes) = tensor_of("output", port).map_err(unwanted)?;
        let axes = axes.ok_or_else(|| {
            unwanted(format!("the file says no shape of its output `{name}`; onnx.shape_inference.infer_shapes adds shapes"))
        })?;
        let axes = axes[1..].to_vec();
        outputs.push(GraphOutput {
            name: name.clone(),
            field: Arc::new(field_of(column, element, &axes)),
            element,
            axes,
        });
        taken.push(port);
    }
    if outputs.is_empty() {
        return Err("none of its outputs is wanted".to_owned());
    }
    Ok((outputs, taken))
}

/// The numbers and the axes of a port, the first of which is that of the rows.
fn tensor_of<'port>(
    what: &str,
    port: &'port Port,
) -> Result<(Element, Option<&'port [Axis]>), String> {
    let name = &port.name;
    let element = match &port.kind {
        PortKind::Tensor(element) => *element,
        PortKind::Other(kind) => {
            return Err(format!(
                "its {what} `{name}` is {kind}, and columns have tensors of numbers and truth values"
            ));
        }
    };
    if matches!(&port.axes, Some(axes) if axes.is_empty()) {
        return Err(format!(
            "its {what} `{name}` is a single value, and not one for each row: the first axis is that of the rows"
        ));
    }
    Ok((element, port.axes.as_deref()))
}

/// The column of an output: what TYP-1 makes of an array of its axes.
fn field_of(column: &str, element: Element, axes: &[Axis]) -> Field {
    let values = element.arrow();
    let shape = fixed_shape(axes);
    match (axes.len(), &shape) {
        (0, _) => Field::new(column, values, true),
        (1, Some(shape)) => {
            let size = i32::try_from(shape[0]).unwrap_or(i32::MAX);
            Field::new(
                column,
                DataType::new_fixed_size_list(values, size, true),
                true,
            )
        }
        (1, None) => Field::new(column, DataType::new_list(values, true), true),
        (rank, _) => {
            let sizes = |shape: &Vec<usize>| {
                let sizes = shape
                    .iter()
                    .map(|&size| i32::try_from(size).unwrap_or(i32::MAX));
                sizes.collect()
            };
            let tensor = TensorType {
                values,
                rank,
                shape: shape.as_ref().map(sizes),
                is_permuted: false,
            };
            tensor.to_field(column, true)
        }
    }
}

/// The length of the first axis, where the graph fixes it; what is wrong, if the first axis cannot be that of the rows.
fn fixed_rows(inputs: &[Port], outputs: &[&Port]) -> Result<Option<usize>, String> {
    let ports = || {
        let inputs = inputs.iter().map(|port| ("input", port));
        inputs.chain(outputs.iter().map(|&port| ("output", port)))
    };
    let shaped =
        || ports().filter_map(|(what, port)| Some((what, &port.name, port.axes.as_deref()?)));
    let named = shaped().find_map(|(_, _, axes)| match &axes[0] {
        Axis::Dynamic(name) if !name.is_empty() => Some(name.as_str()),
        _ => None,
    });
    let is_batch = |axis: &Axis| matches!(axis, Axis::Dynamic(name) if Some(name.as_str()) == named || name.to_lowercase().contains("batch"));
    for (what, name, axes) in shaped() {
        let Some(place) = axes.iter().skip(1).position(is_batch) else {
            continue;
        };
        let place = place + 1;
        if is_batch(&axes[0]) && axes[0] == axes[place] {
            return Err(format!(
                "axis {place} of its {what} `{name}` is as long as the batch, so that a row would not be the same in another batch"
            ));
        }
        return Err(format!(
            "the rows of its {what} `{name}` are along axis {place}, and must be along the first: transpose it in the graph"
        ));
    }
    let first = |(what, name, axes): (&'static str, _, &[Axis])| match axes[0] {
        Axis::Fixed(size) => Some((
            what,
            name,
            size,
            axes[1..]
                .iter()
                .any(|axis| matches!(axis, Axis::Dynamic(_))),
        )),
        Axis::Dynamic(_) => None,
    };
    let Some((what, name, size, _)) = shaped().find_map(first) else {
        return Ok(None);
    };
    if let Some((what, other, found, _)) = shaped()
        .filter_map(first)
        .find(|(_, _, found, _)| *found != size)
    {
        return Err(format!(
            "the first axis of `{name}` is {size} and that of its {what} `{other}` is {found}: one that all have in common must be that of the rows"
        ));
    }
    let is_free = |(what, _, axes): &(&str, _, &[Axis])| {
        *what == "input" && matches!(axes[0], Axis::Dynamic(_))
    };
    if let Some((_, other, _)) = shaped().find(is_free) {
        return Err(format!(
            "the first axis of its {what} `{name}` is fixed at {size}, and that of its input `{other}` is not: it must be that of the rows in all"
        ));
    }
    let is_doubtful =
        |(_, _, size, has_dynamic): &(&str, &String, usize, bool)| *size > 1 && *has_dynamic;
    if let Some((what, name, size, _)) = shaped().filter_map(first).find(is_doubtful) {
        return Err(format!(
            "the first axis of its {what} `{name}` is fixed at {size} and another is not: rows are along the first axis, which should be the dynamic one"
        ));
    }
    match size {
        0 => Err(format!(
            "the first axis of its {what} `{name}` is fixed at 0"
        )),
        _ => Ok(Some(size)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(inputs: &[&[&str]], outputs: &[&[&str]]) -> Result<Option<usize>, String> {
        let inputs: Vec<Port> = inputs.iter().map(|axes| Port::sample("x", axes)).collect();
        let outputs: Vec<Port> = outputs.iter().map(|axes| Port::sample("y", axes)).collect();
        fixed_rows(&inputs, &outputs.iter().collect::<Vec<_>>())
    }

    #[test]
    fn first_axis_is_that_of_the_rows_or_the_message_says_why_not() {
        assert_eq!(rows(&[&["N", "3"]], &[&["N"]]), Ok(None));
        assert_eq!(rows(&[&["", "3"]], &[&["", "seq"]]), Ok(None));
        assert_eq!(rows(&[&["1", "seq"]], &[&["1", "seq", "8"]]), Ok(Some(1)));
        assert_eq!(
            rows(&[&["4", "3"], &["4"]], &[&["unk__1", "2"]]),
            Ok(Some(4))
        );
        for (inputs, outputs, said) in [
            (
                vec![&["seq", "batch", "3"][..]],
                vec![&["batch"][..]],
                "axis 1",
            ),
            (vec![&["N", "3"]], vec![&["3", "N"]], "along axis 1"),
            (vec![&["N", "3"]], vec![&["N", "N"]], "as long as the batch"),
            (
                vec![&["3", "n"]],
                vec![&["3", "n"]],
                "fixed at 3 and another is not",
            ),
            (vec![&["4", "3"], &["N"]], vec![&["N"]], "is not"),
            (vec![&["4", "3"]], vec![&["1"]], "in common"),
            (
                vec![&["N", "3"]],
                vec![&["1", "3"]],
                "must be that of the rows in all",
            ),
            (vec![&["0", "3"]], vec![&["0"]], "fixed at 0"),
        ] {
            let error = rows(&inputs, &outputs).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
