//! Which columns have come out so far.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;

use crate::block;
use crate::columns::unify;

/// The columns of all batches so far, told on whenever they have grown.
#[derive(Default)]
pub(crate) struct SeenColumns {
    schema: Option<SchemaRef>,
    is_told: bool,
}

impl SeenColumns {
    /// Takes the columns of one batch. Columns that have no type in common fail where somebody puts them together.
    pub(crate) fn see(&mut self, schema: &SchemaRef) {
        let all = match &self.schema {
            Some(seen) if Arc::ptr_eq(seen, schema) || seen == schema => return,
            Some(seen) => match unify(seen, schema) {
                Ok(all) => all,
                Err(_) => return,
            },
            None => Arc::clone(schema),
        };
        self.is_told &= self.schema.as_ref() == Some(&all);
        self.schema = Some(all);
    }

    /// Takes what another has told.
    pub(crate) fn hear(&mut self, told: &Bytes) {
        if let Ok(schema) = block::decode_schema(told.clone())
            && !told.is_empty()
        {
            self.see(&schema);
        }
    }

    /// The columns so far, if there was any batch.
    pub(crate) fn schema(&self) -> Option<SchemaRef> {
        self.schema.clone()
    }

    /// The columns as bytes; nothing, if they were told as they are.
    pub(crate) fn tell(&mut self) -> Bytes {
        let Some(schema) = self.schema.as_ref().filter(|_| !self.is_told) else {
            return Bytes::new();
        };
        self.is_told = true;
        // Whoever needs them finds them in the blocks and files as well.
        block::encode_schema(schema).unwrap_or_default()
    }
}
