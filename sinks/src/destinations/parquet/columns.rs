//! Rows on their way into a row group: one buffer a column, in the form that the format stores them.

use ::parquet::column::reader::ColumnReader;
use ::parquet::data_type::{BoolType, ByteArray, ByteArrayType, Int64Type};
use ::parquet::errors::{ParquetError, Result};
use ::parquet::file::reader::RowGroupReader;
use ::parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use bytes::Bytes;

use super::schema::{Leaf, LeafKind};

/// The buffers of all columns.
#[derive(Debug)]
pub(super) struct Columns {
    columns: Vec<Column>,
    rows: u64,
    bytes: usize,
}

/// One column: how deep each value is defined, and the values that are there.
///
/// <https://parquet.apache.org/docs/file-format/nestedencoding/>
#[derive(Debug)]
struct Column {
    defined: Vec<i16>,
    /// For columns in which a row may have several values.
    repeated: Option<Vec<i16>>,
    values: Values,
}

#[derive(Debug)]
enum Values {
    /// All texts, one after the other, and where each ends.
    Texts(Vec<u8>, Vec<usize>),
    Numbers(Vec<i64>),
    Flags(Vec<bool>),
}

/// How deep a value stands, counted as the format counts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Level {
    pub(super) defined: i16,
    pub(super) repeated: i16,
}

impl Columns {
    pub(super) fn new(leaves: &[Leaf]) -> Self {
        let column = |leaf: &Leaf| Column {
            defined: Vec::new(),
            repeated: leaf.repeated.then(Vec::new),
            values: match leaf.of {
                LeafKind::Text => Values::Texts(Vec::new(), Vec::new()),
                LeafKind::Number => Values::Numbers(Vec::new()),
                LeafKind::Flag => Values::Flags(Vec::new()),
            },
        };
        Self { columns: leaves.iter().map(column).collect(), rows: 0, bytes: 0 }
    }

    /// Rows that are complete.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of what is in the buffers.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn end_row(&mut self) {
        self.rows += 1;
    }

    /// Notes that the column has no value here.
    pub(super) fn absent(&mut self, column: usize, level: Level) {
        if let Some(column) = self.columns.get_mut(column) {
            self.bytes += column.level(level);
        }
    }

    pub(super) fn text(&mut self, column: usize, level: Level, text: &[u8]) {
        let Some(column) = self.columns.get_mut(column) else { return };
        if let Values::Texts(texts, ends) = &mut column.values {
            texts.extend_from_slice(text);
            ends.push(texts.len());
        }
        self.bytes += column.level(level) + text.len() + size_of::<usize>();
    }

    pub(super) fn number(&mut self, column: usize, level: Level, number: i64) {
        let Some(column) = self.columns.get_mut(column) else { return };
        if let Values::Numbers(numbers) = &mut column.values {
            numbers.push(number);
        }
        self.bytes += column.level(level) + size_of::<i64>();
    }

    pub(super) fn flag(&mut self, column: usize, level: Level, flag: bool) {
        let Some(column) = self.columns.get_mut(column) else { return };
        if let Values::Flags(flags) = &mut column.values {
            flags.push(flag);
        }
        self.bytes += column.level(level) + 1;
    }

    /// Adds the rows of a row group that has the same columns.
    pub(super) fn append(&mut self, group: &dyn RowGroupReader) -> Result<()> {
        let rows = usize::try_from(group.metadata().num_rows()).unwrap_or_default();
        for (at, column) in self.columns.iter_mut().enumerate() {
            self.bytes += column.append(group.get_column_reader(at)?, rows)?;
        }
        self.rows += rows as u64;
        Ok(())
    }

    /// Writes all rows as one row group, and starts afresh.
    pub(super) fn write(&mut self, writer: &mut SerializedFileWriter<Vec<u8>>) -> Result<()> {
        let mut group = writer.next_row_group()?;
        for column in &mut self.columns {
            let Some(mut into) = group.next_column()? else {
                return Err(ParquetError::General("the schema has fewer columns than a row".to_owned()));
            };
            column.write(&mut into)?;
            into.close()?;
        }
        group.close()?;
        (self.rows, self.bytes) = (0, 0);
        Ok(())
    }
}

impl Column {
    /// Bytes that noting it takes.
    fn level(&mut self, level: Level) -> usize {
        self.defined.push(level.defined);
        if let Some(repeated) = &mut self.repeated {
            repeated.push(level.repeated);
        }
        size_of::<i16>() * (1 + usize::from(self.repeated.is_some()))
    }

    /// Adds so many rows of a stored column; the bytes that they take.
    fn append(&mut self, from: ColumnReader, rows: usize) -> Result<usize> {
        let before = self.defined.len();
        let bytes = match (&mut self.values, from) {
            (Values::Texts(texts, ends), ColumnReader::ByteArrayColumnReader(mut from)) => {
                let (mut read, start) = (Vec::new(), texts.len());
                from.read_records(rows, Some(&mut self.defined), self.repeated.as_mut(), &mut read)?;
                for text in &read {
                    texts.extend_from_slice(text.data());
                    ends.push(texts.len());
                }
                texts.len() - start + read.len() * size_of::<usize>()
            }
            (Values::Numbers(numbers), ColumnReader::Int64ColumnReader(mut from)) => {
                let start = numbers.len();
                from.read_records(rows, Some(&mut self.defined), self.repeated.as_mut(), numbers)?;
                (numbers.len() - start) * size_of::<i64>()
            }
            (Values::Flags(flags), ColumnReader::BoolColumnReader(mut from)) => {
                let start = flags.len();
                from.read_records(rows, Some(&mut self.defined), self.repeated.as_mut(), flags)?;
                flags.len() - start
            }
            _ => return Err(ParquetError::General("a column is of another type".to_owned())),
        };
        let levels = self.defined.len() - before;
        Ok(bytes + levels * size_of::<i16>() * (1 + usize::from(self.repeated.is_some())))
    }

    fn write(&mut self, into: &mut SerializedColumnWriter<'_>) -> Result<()> {
        let defined = std::mem::take(&mut self.defined);
        let repeated = self.repeated.as_mut().map(std::mem::take);
        let (defined, repeated) = (Some(defined.as_slice()), repeated.as_deref());
        match &mut self.values {
            Values::Texts(texts, ends) => {
                let texts = Bytes::from(std::mem::take(texts));
                let mut start = 0;
                let cut = |end: usize| ByteArray::from(texts.slice(std::mem::replace(&mut start, end)..end));
                let values: Vec<ByteArray> = std::mem::take(ends).into_iter().map(cut).collect();
                into.typed::<ByteArrayType>().write_batch(&values, defined, repeated)?;
            }
            Values::Numbers(numbers) => {
                into.typed::<Int64Type>().write_batch(&std::mem::take(numbers), defined, repeated)?;
            }
            Values::Flags(flags) => {
                into.typed::<BoolType>().write_batch(&std::mem::take(flags), defined, repeated)?;
            }
        }
        Ok(())
    }
}
