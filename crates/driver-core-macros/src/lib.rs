//! The attributes of `jumpstarter_driver_core`; use them from there.
//!
//! `#[interface]` makes, from one trait definition, the trait, its method table, its server adapter
//! and its remote proxy. `#[config]` and `#[data]` add derives to types.

use syn::{ItemTrait, parse_macro_input};

mod definition;
mod interface;
mod method;
mod options;
#[cfg(test)]
mod tests;

/// Turns an async trait into a Jumpstarter interface; see `jumpstarter_driver_core::Interface`.
///
/// Arguments: `name = "power"` (how people and reports name the interface), `client =
/// "python.import.path"` (the Python client class that drives it), `also = ["…"]` (further such
/// classes, whose drivers have all its methods), `native` (Python exporters never have it,
/// whatever client class they name) and `crate = path` (where `jumpstarter_driver_core` is found,
/// such as `jumpstarter`, for a crate that does not depend on it directly).
#[proc_macro_attribute]
pub fn interface(
    attribute: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    let mut options = options::Interface::default();
    let parser = syn::meta::parser(|meta| options.read(&meta));
    parse_macro_input!(attribute with parser);
    let definition = parse_macro_input!(item as ItemTrait);
    interface::expand(options, definition).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a struct or an enum (part of) the configuration of a driver: derives `Deserialize` and
/// `JsonSchema`, refuses unknown fields, and refuses to compile while a field has no doc comment,
/// since the schema of exporter files and the tables of `jmp drivers` show it.
///
/// Write it above other attributes. The crates `serde` and `schemars` need not be dependencies:
/// `#[serde(…)]` and `#[schemars(…)]` still work. The argument `crate = path` is that of
/// [`macro@interface`].
#[proc_macro_attribute]
pub fn config(
    attribute: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    let mut options = options::Definition::default();
    let parser = syn::meta::parser(|meta| options.read(&meta));
    parse_macro_input!(attribute with parser);
    let item = parse_macro_input!(item as syn::Item);
    definition::config(&options, item).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a struct or an enum an argument or a result of methods: derives `Serialize`,
/// `Deserialize` and `JsonSchema`.
///
/// Write it above other attributes. The crates `serde` and `schemars` need not be dependencies. The
/// argument `crate = path` is that of [`macro@interface`].
#[proc_macro_attribute]
pub fn data(
    attribute: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    let mut options = options::Definition::default();
    let parser = syn::meta::parser(|meta| options.read(&meta));
    parse_macro_input!(attribute with parser);
    let item = parse_macro_input!(item as syn::Item);
    definition::data(&options, &item).unwrap_or_else(syn::Error::into_compile_error).into()
}
