//! What an ONNX file says of itself: its inputs and outputs, and which files hold its weights. The weights are passed over.
//!
//! Plans are made by programs that need not have ONNX Runtime, and a model may have gigabytes. The file is a message of Protocol
//! Buffers; the numbers of its fields are those of `onnx.proto` (<https://github.com/onnx/onnx/blob/main/onnx/onnx.proto>).

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::element::Element;

/// Names and descriptions are longer than this nowhere.
const MOST_TEXT_BYTES: u64 = 1 << 20;

/// What a graph takes and gives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Interface {
    pub(crate) inputs: Vec<Port>,
    pub(crate) outputs: Vec<Port>,
    /// Files beside it with weights, by their paths from its folder.
    pub(crate) weight_files: BTreeSet<PathBuf>,
}

/// An input or an output.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) kind: PortKind,
    /// `None`: the file does not say.
    pub(crate) axes: Option<Vec<Axis>>,
}

#[cfg(test)]
impl Port {
    /// One of float32. Axes that are no numbers are dynamic.
    pub(crate) fn sample(name: &str, axes: &[&str]) -> Self {
        let axis = |text: &&str| {
            text.parse()
                .map_or_else(|_| Axis::Dynamic((*text).to_owned()), Axis::Fixed)
        };
        Self {
            name: name.to_owned(),
            kind: PortKind::Tensor(Element::Float32),
            axes: Some(axes.iter().map(axis).collect()),
        }
    }
}

/// What goes through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PortKind {
    Tensor(Element),
    /// In words: what no column has.
    Other(String),
}

impl Default for PortKind {
    fn default() -> Self {
        Self::Other("something without a type".to_owned())
    }
}

/// The length of an axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Axis {
    Fixed(usize),
    /// Any; the same wherever the name is the same. The name may be empty.
    Dynamic(String),
}

/// Why a file is no ONNX graph.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    #[error("it ends in the middle: it has {bytes} bytes, and says that it has more")]
    CutOff { bytes: u64 },
    #[error("it is no ONNX file, or is damaged: {0}")]
    Damaged(String),
}

impl Interface {
    /// Reads what stands before and between the weights.
    pub(crate) fn read(path: &Path) -> Result<Self, FileError> {
        let file = File::open(path).map_err(FileError::Read)?;
        let bytes = file.metadata().map_err(FileError::Read)?.len();
        let mut walk = Walk {
            file: BufReader::new(file),
            at: 0,
            bytes,
        };
        let mut graph = None;
        while let Some(field) = walk.next(bytes)? {
            match field {
                Field {
                    number: 7,
                    length: Some(length),
                    ..
                } => graph = Some(walk.graph(length)?),
                field => walk.pass(&field)?,
            }
        }
        graph.ok_or_else(|| FileError::Damaged("it has no graph".to_owned()))
    }
}

struct Walk {
    file: BufReader<File>,
    at: u64,
    bytes: u64,
}

/// The beginning of a field.
struct Field {
    number: u64,
    /// Of text, bytes and messages, which follow.
    length: Option<u64>,
    /// Of numbers.
    value: u64,
}

impl Walk {
    fn graph(&mut self, length: u64) -> Result<Interface, FileError> {
        let end = self.at + length;
        let mut interface = Interface::default();
        let mut weights = BTreeSet::new();
        while let Some(field) = self.next(end)? {
            match (field.number, field.length) {
                (5, Some(length)) => {
                    let (name, file) = self.weight(length)?;
                    weights.insert(name);
                    interface.weight_files.extend(file);
                }
                (11, Some(length)) => interface.inputs.push(self.port(length)?),
                (12, Some(length)) => interface.outputs.push(self.port(length)?),
                _ => self.pass(&field)?,
            }
        }
        // Until IR version 4 weights were inputs, too.
        interface
            .inputs
            .retain(|input| !weights.contains(&input.name));
        Ok(interface)
    }

    /// `TensorProto`: its name, and the file that it lies in.
    fn weight(&mut self, length: u64) -> Result<(String, Option<PathBuf>), FileError> {
        let end = self.at + length;
        let (mut name, mut place, mut is_outside) = (String::new(), None, false);
        while let Some(field) = self.next(end)? {
            match (field.number, field.length) {
                (8, Some(length)) => name = self.text(length)?,
                (13, Some(length)) => {
                    let (key, value) = self.entry(length)?;
                    if key == "location" {
                        place = Some(PathBuf::from(value));
                    }
                }
                (14, None) => is_outside = field.value == 1,
                _ => self.pass(&field)?,
            }
        }
        Ok((name, place.filter(|_| is_outside)))
    }

    /// `StringStringEntryProto`.
    fn entry(&mut self, length: u64) -> Result<(String, String), FileError> {
        let end = self.at + length;
        let mut entry = (String::new(), String::new());
        while let Some(field) = self.next(end)? {
            match (field.number, field.length) {
                (1, Some(length)) => entry.0 = self.text(length)?,
                (2, Some(length)) => entry.1 = self.text(length)?,
                _ => self.pass(&field)?,
            }
        }
        Ok(entry)
    }

    /// `ValueInfoProto`.
    fn port(&mut self, length: u64) -> Result<Port, FileError> {
        let end = self.at + length;
        let mut port = Port::default();
        while let Some(field) = self.next(end)? {
            match (field.number, field.length) {
                (1, Some(length)) => port.name = self.text(length)?,
                (2, Some(length)) => (port.kind, port.axes) = self.port_type(length)?,
                _ => self.pass(&field)?,
            }
        }
        Ok(port)
    }

    /// `TypeProto`.
    fn port_type(&mut self, length: u64) -> Result<(PortKind, Option<Vec<Axis>>), FileError> {
        let end = self.at + length;
        let mut found = (PortKind::default(), None);
        while let Some(field) = self.next(end)? {
            let other = match (field.number, field.length) {
                (1, Some(length)) => {
                    found = self.tensor_type(length)?;
                    continue;
                }
                (4, Some(_)) => "a sequence",
                (5, Some(_)) => "a map",
                (8, Some(_)) => "a sparse tensor",
                (9, Some(_)) => "an optional value",
                _ => {
                    self.pass(&field)?;
                    continue;
                }
            };
            found = (PortKind::Other(other.to_owned()), None);
            self.pass(&field)?;
        }
        Ok(found)
    }

    /// `TypeProto.Tensor`.
    fn tensor_type(&mut self, length: u64) -> Result<(PortKind, Option<Vec<Axis>>), FileError> {
        let end = self.at + length;
        let mut found = (PortKind::default(), None);
        while let Some(field) = self.next(end)? {
            match (field.number, field.length) {
                (1, None) => {
                    let element = Element::of_code(field.value);
                    found.0 = match element {
                        Ok(element) => PortKind::Tensor(element),
                        Err(name) => PortKind::Other(format!("a tensor of {name}")),
                    };
                }
                (2, Some(length)) => found.1 = Some(self.axes(length)?),
                _ => self.pass(&field)?,
            }
        }
        Ok(found)
    }

    /// `TensorShapeProto`.
    fn axes(&mut self, length: u64) -> Result<Vec<Axis>, FileError> {
        let end = self.at + length;
        let mut axes = Vec::new();
        while let Some(field) = self.next(end)? {
            match (field.number, field.length) {
                (1, Some(length)) => axes.push(self.axis(length)?),
                _ => self.pass(&field)?,
            }
        }
        Ok(axes)
    }

    fn axis(&mut self, length: u64) -> Result<Axis, FileError> {
        let end = self.at + length;
        let mut axis = Axis::Dynamic(String::new());
        while let Some(field) = self.next(end)? {
            match (field.number, field.length) {
                // Some exporters write -1 where they mean any.
                (1, None) => {
                    if let Ok(size) = usize::try_from(field.value.cast_signed()) {
                        axis = Axis::Fixed(size);
                    }
                }
                (2, Some(length)) => axis = Axis::Dynamic(self.text(length)?),
                _ => self.pass(&field)?,
            }
        }
        Ok(axis)
    }

    /// The next field of a message that ends there; `None`: it ends here.
    fn next(&mut self, end: u64) -> Result<Option<Field>, FileError> {
        if self.at == end {
            return Ok(None);
        }
        let key = self.varint(end)?;
        let mut field = Field {
            number: key >> 3,
            length: None,
            value: 0,
        };
        match key & 7 {
            0 => field.value = self.varint(end)?,
            1 => self.skip(8)?,
            2 => field.length = Some(self.varint(end)?),
            5 => self.skip(4)?,
            kind => {
                return Err(FileError::Damaged(format!(
                    "a field of the unknown kind {kind} at byte {}",
                    self.at
                )));
            }
        }
        if field.number == 0 {
            return Err(FileError::Damaged(format!(
                "a field without a number at byte {}",
                self.at
            )));
        }
        let after = self.at.saturating_add(field.length.unwrap_or(0));
        if after > self.bytes {
            return Err(FileError::CutOff { bytes: self.bytes });
        }
        if after > end {
            return Err(FileError::Damaged(format!(
                "a field that is longer than what it lies in at byte {}",
                self.at
            )));
        }
        Ok(Some(field))
    }

    /// Goes on behind a field whose beginning was read.
    fn pass(&mut self, field: &Field) -> Result<(), FileError> {
        self.skip(field.length.unwrap_or(0))
    }

    fn skip(&mut self, bytes: u64) -> Result<(), FileError> {
        self.at = self.at.saturating_add(bytes);
        if self.at > self.bytes {
            return Err(FileError::CutOff { bytes: self.bytes });
        }
        let bytes = i64::try_from(bytes).map_err(|_| FileError::CutOff { bytes: self.bytes })?;
        self.file.seek_relative(bytes).map_err(FileError::Read)
    }

    fn varint(&mut self, end: u64) -> Result<u64, FileError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            if self.at >= end {
                return Err(FileError::CutOff { bytes: self.bytes });
            }
            let mut byte = [0];
            self.file.read_exact(&mut byte).map_err(FileError::Read)?;
            self.at += 1;
            value |= u64::from(byte[0] & 0x7F) << shift;
            if byte[0] < 0x80 {
                return Ok(value);
            }
        }
        Err(FileError::Damaged(format!(
            "a number without an end at byte {}",
            self.at
        )))
    }

    fn text(&mut self, length: u64) -> Result<String, FileError> {
        let length = usize::try_from(length.min(MOST_TEXT_BYTES + 1)).unwrap_or(usize::MAX);
        if length as u64 > MOST_TEXT_BYTES {
            return Err(FileError::Damaged(format!(
                "a name that does not end at byte {}",
                self.at
            )));
        }
        let mut bytes = vec![0; length];
        self.file.read_exact(&mut bytes).map_err(FileError::Read)?;
        self.at += length as u64;
        String::from_utf8(bytes).map_err(|_| {
            FileError::Damaged(format!("a name that is no text before byte {}", self.at))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn number(field: u8, value: u8) -> Vec<u8> {
        vec![field << 3, value]
    }

    fn part(field: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u8::try_from(bytes.len()).expect("small") & 0x7F;
        let long = bytes.len() > 0x7F;
        let mut part = vec![field << 3 | 2, length | u8::from(long) << 7];
        part.extend(long.then_some(1));
        part.extend(bytes);
        part
    }

    fn port(field: u8, name: &str, axes: &[Vec<u8>]) -> Vec<u8> {
        let axes: Vec<u8> = axes.iter().flat_map(|axis| part(1, axis)).collect();
        let tensor = [number(1, 1), part(2, &axes)].concat();
        part(
            field,
            &[part(1, name.as_bytes()), part(2, &part(1, &tensor))].concat(),
        )
    }

    fn sample() -> Vec<u8> {
        let place = [part(1, b"location"), part(2, b"w.bin")].concat();
        let outside = [part(8, b"w"), part(13, &place), number(14, 1)].concat();
        let inside = [part(8, b"b"), part(9, &[0; 70])].concat();
        let graph = [
            part(5, &outside),
            part(5, &inside),
            port(11, "x", &[part(2, b"N"), number(1, 3)]),
            port(11, "b", &[number(1, 3)]),
            port(12, "y", &[part(2, b"N"), Vec::new()]),
        ];
        [number(1, 8), part(7, &graph.concat())].concat()
    }

    fn read(bytes: &[u8]) -> Result<Interface, FileError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        fs::write(&path, bytes).unwrap();
        Interface::read(&path)
    }

    #[test]
    fn inputs_outputs_and_files_with_weights_are_found() {
        let read = read(&sample()).unwrap();
        let dynamic = |name: &str| Axis::Dynamic(name.to_owned());
        let port = |name: &str, axes: Vec<Axis>| Port {
            name: name.to_owned(),
            kind: PortKind::Tensor(Element::Float32),
            axes: Some(axes),
        };
        // `b` is a weight, as its initial value says.
        assert_eq!(read.inputs, [port("x", vec![dynamic("N"), Axis::Fixed(3)])]);
        assert_eq!(read.outputs, [port("y", vec![dynamic("N"), dynamic("")])]);
        assert_eq!(read.weight_files, BTreeSet::from([PathBuf::from("w.bin")]));
    }

    #[test]
    fn file_that_was_cut_off_anywhere_is_an_error() {
        let whole = sample();
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn bytes_that_are_no_message_are_an_error() {
        for seed in 0..300u32 {
            let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
            let bytes: Vec<u8> = (0..64)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    state.to_le_bytes()[3]
                })
                .collect();
            // It may be a message by chance, but never of a model with inputs.
            assert!(read(&bytes).is_ok_and(|read| read.inputs.is_empty()) || read(&bytes).is_err());
        }
        let error = read(b"{\"a\": 1}").unwrap_err().to_string();
        assert!(error.contains("no ONNX file"), "{error}");
    }
}
