//! Numbers that JSON cannot say.
//!
//! JSON has no NaN and no infinity, and serde_json writes `null` for them: a payload would be accepted and be another one
//! than was meant. So what is written is looked at: [`Nulls`] counts the nulls as they are written, which costs nothing, and
//! only if there is one, [`find`] goes through the value once more, in search of the number that it may stand for, and of
//! the place where it is.

use std::fmt::{self, Display, Write};
use std::io;

use serde::ser::{
    Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use serde_json::ser::Formatter;

/// Writes JSON as serde_json does, and says whether a `null` is in it.
pub(crate) fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<(Vec<u8>, bool), serde_json::Error> {
    let (mut bytes, mut nulls) = (Vec::with_capacity(128), false);
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, Nulls(&mut nulls)))?;
    Ok((bytes, nulls))
}

/// The compact format, with an eye on nulls.
struct Nulls<'a>(&'a mut bool);

impl Formatter for Nulls<'_> {
    fn write_null<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        *self.0 = true;
        writer.write_all(b"null")
    }
}

/// The first number of a value that is not finite, and where it is, as `$.rows[1].share: NaN`.
pub(crate) fn find<T: Serialize + ?Sized>(value: &T) -> Option<String> {
    let mut search = Search { path: "$".to_owned(), found: None };
    // It fails where it finds one, and there only: the value has been written once.
    let _ = value.serialize(&mut search);
    search.found
}

struct Search {
    path: String,
    found: Option<String>,
}

impl Search {
    fn number(&mut self, value: f64) -> Result<(), Stop> {
        if value.is_finite() {
            return Ok(());
        }
        self.found = Some(format!("{}: {value}", self.path));
        Err(Stop)
    }

    /// Goes into a part of the value.
    fn at<T: Serialize + ?Sized>(&mut self, step: impl Display, part: &T) -> Result<(), Stop> {
        let length = self.path.len();
        let _ = write!(self.path, "{step}");
        part.serialize(&mut *self)?;
        self.path.truncate(length);
        Ok(())
    }
}

/// Where the search ends.
#[derive(Debug)]
struct Stop;

impl Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("found")
    }
}

impl std::error::Error for Stop {}

impl serde::ser::Error for Stop {
    fn custom<T: Display>(_: T) -> Self {
        Self
    }
}

macro_rules! nothing {
    ($($method:ident($kind:ty))*) => {
        $(fn $method(self, _: $kind) -> Result<(), Stop> { Ok(()) })*
    };
}

impl<'a> Serializer for &'a mut Search {
    type Ok = ();
    type Error = Stop;
    type SerializeSeq = Parts<'a>;
    type SerializeTuple = Parts<'a>;
    type SerializeTupleStruct = Parts<'a>;
    type SerializeTupleVariant = Parts<'a>;
    type SerializeMap = Parts<'a>;
    type SerializeStruct = Parts<'a>;
    type SerializeStructVariant = Parts<'a>;

    nothing! {
        serialize_bool(bool) serialize_char(char) serialize_str(&str) serialize_bytes(&[u8])
        serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64) serialize_i128(i128)
        serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64) serialize_u128(u128)
        serialize_unit_struct(&'static str)
    }

    fn serialize_f32(self, value: f32) -> Result<(), Stop> {
        self.number(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Stop> {
        self.number(value)
    }

    fn serialize_none(self) -> Result<(), Stop> {
        Ok(())
    }

    fn serialize_unit(self) -> Result<(), Stop> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), Stop> {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Stop> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Stop> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Stop> {
        self.at(format_args!(".{variant}"), value)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Parts<'a>, Stop> {
        Ok(Parts::of(self, ""))
    }

    fn serialize_tuple(self, _: usize) -> Result<Parts<'a>, Stop> {
        Ok(Parts::of(self, ""))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Parts<'a>, Stop> {
        Ok(Parts::of(self, ""))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts<'a>, Stop> {
        Ok(Parts::of(self, variant))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Parts<'a>, Stop> {
        Ok(Parts::of(self, ""))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Parts<'a>, Stop> {
        Ok(Parts::of(self, ""))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts<'a>, Stop> {
        Ok(Parts::of(self, variant))
    }
}

/// What a value is made of: elements, entries or fields.
struct Parts<'a> {
    search: &'a mut Search,
    /// The path is so long outside of it.
    outside: usize,
    index: usize,
    key: String,
}

impl<'a> Parts<'a> {
    /// Those of a variant are one level down.
    fn of(search: &'a mut Search, variant: &str) -> Self {
        let outside = search.path.len();
        if !variant.is_empty() {
            let _ = write!(search.path, ".{variant}");
        }
        Self { search, outside, index: 0, key: String::new() }
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
        let index = self.index;
        self.index += 1;
        self.search.at(format_args!("[{index}]"), value)
    }

    fn leave(self) -> Result<(), Stop> {
        self.search.path.truncate(self.outside);
        Ok(())
    }
}

impl SerializeSeq for Parts<'_> {
    type Ok = ();
    type Error = Stop;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
        self.element(value)
    }

    fn end(self) -> Result<(), Stop> {
        self.leave()
    }
}

impl SerializeTuple for Parts<'_> {
    type Ok = ();
    type Error = Stop;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
        self.element(value)
    }

    fn end(self) -> Result<(), Stop> {
        self.leave()
    }
}

impl SerializeTupleStruct for Parts<'_> {
    type Ok = ();
    type Error = Stop;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
        self.element(value)
    }

    fn end(self) -> Result<(), Stop> {
        self.leave()
    }
}

impl SerializeTupleVariant for Parts<'_> {
    type Ok = ();
    type Error = Stop;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
        self.element(value)
    }

    fn end(self) -> Result<(), Stop> {
        self.leave()
    }
}

impl SerializeMap for Parts<'_> {
    type Ok = ();
    type Error = Stop;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Stop> {
        let json = serde_json::to_string(key).map_err(Stop::custom)?;
        self.key = json.trim_matches('"').to_owned();
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
        let key = std::mem::take(&mut self.key);
        self.search.at(format_args!(".{key}"), value)
    }

    fn end(self) -> Result<(), Stop> {
        self.leave()
    }
}

impl SerializeStruct for Parts<'_> {
    type Ok = ();
    type Error = Stop;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Stop> {
        self.search.at(format_args!(".{key}"), value)
    }

    fn end(self) -> Result<(), Stop> {
        self.leave()
    }
}

impl SerializeStructVariant for Parts<'_> {
    type Ok = ();
    type Error = Stop;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Stop> {
        self.search.at(format_args!(".{key}"), value)
    }

    fn end(self) -> Result<(), Stop> {
        self.leave()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(serde::Serialize)]
    struct Row {
        name: &'static str,
        share: Option<f64>,
    }

    #[derive(serde::Serialize)]
    enum Shape {
        Circle(f64),
        Point(f32, f32),
        Box { width: f64 },
    }

    #[derive(serde::Serialize)]
    struct Wrapped(f64);

    fn row(share: f64) -> Row {
        Row { name: "a", share: Some(share) }
    }

    #[test]
    fn the_place_is_named() {
        let rows = BTreeMap::from([("rows", vec![row(1.0), Row { name: "b", share: None }, row(f64::NAN)])]);
        let numbers = BTreeMap::from([(3, [0.5, f64::INFINITY])]);
        for (found, expected) in [
            (find(&f64::NAN), "$: NaN"),
            (find(&f32::NEG_INFINITY), "$: -inf"),
            (find(&rows), "$.rows[2].share: NaN"),
            (find(&numbers), "$.3[1]: inf"),
            (find(&(1, "two", Wrapped(f64::NAN))), "$[2]: NaN"),
            (find(&[Shape::Circle(f64::NAN)]), "$[0].Circle: NaN"),
            (find(&[Shape::Point(1.0, 2.0), Shape::Point(1.0, f32::NAN)]), "$[1].Point[1]: NaN"),
            (find(&Shape::Box { width: f64::NAN }), "$.Box.width: NaN"),
            (find(&Some(Box::new(row(f64::NAN)))), "$.share: NaN"),
        ] {
            assert_eq!(found.as_deref(), Some(expected));
        }
        assert_eq!(find(&(row(1.0), None::<f64>, (), [Shape::Circle(0.0)])), None);
    }

    #[test]
    fn nulls_are_noticed() {
        assert!(!to_vec(&row(1.0)).unwrap().1);
        assert!(to_vec(&Row { name: "null", share: None }).unwrap().1);
        assert!(to_vec(&row(f64::NAN)).unwrap().1);
        for value in [serde_json::json!({"a": [1, 2.5, "x", {"b": true}], "c": {}}), serde_json::json!("é\n")]
        {
            assert_eq!(to_vec(&value).unwrap(), (serde_json::to_vec(&value).unwrap(), false));
        }
    }
}
