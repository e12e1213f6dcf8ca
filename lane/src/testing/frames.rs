//! The frame codec.

use prost::Message;

use crate::frame::Decoder;

/// Cuts a stream of bytes into frames, as a connection does with what it reads.
#[derive(Default)]
pub struct FrameStream(Decoder);

impl FrameStream {
    /// Takes bytes from the stream and decodes the headers of the frames that they complete. Returns how many these are.
    ///
    /// # Panics
    /// When the bytes are no frames with such headers.
    pub fn feed<M: Message + Default>(&mut self, mut bytes: &[u8]) -> usize {
        let mut frames = 0;
        while !bytes.is_empty() {
            let space = self.0.space();
            let count = space.len().min(bytes.len());
            space[..count].copy_from_slice(&bytes[..count]);
            self.0.advance(count);
            bytes = &bytes[count..];
            while let Some(frame) = self.0.next_frame().expect("the bytes are frames") {
                M::decode(frame.header).expect("the headers are of this type");
                frames += 1;
            }
        }
        frames
    }
}
