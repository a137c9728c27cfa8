//! `#[config]` and `#[data]`: the derives of a type, which needs no further dependencies.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Fields, Item};

use crate::method::is_documented;
use crate::options::Definition;

/// Expands `#[config]` on a definition.
pub(crate) fn config(options: &Definition, item: Item) -> syn::Result<TokenStream> {
    let fields: Vec<&Fields> = match &item {
        Item::Struct(item) => vec![&item.fields],
        Item::Enum(item) => item.variants.iter().map(|variant| &variant.fields).collect(),
        other => return Err(misplaced(other, "config")),
    };
    let undocumented = fields
        .into_iter()
        .flatten()
        .filter(|field| field.ident.is_some() && !is_documented(&field.attrs))
        .map(|field| {
            let message = "a field of a configuration needs a doc comment: the schema of exporter \
                           files and `jmp drivers` show it";
            syn::Error::new_spanned(field.ident.as_ref(), message)
        })
        .reduce(|mut all, error| {
            all.combine(error);
            all
        });
    if let Some(errors) = undocumented {
        return Err(errors);
    }
    let unknown_fields = match &item {
        // A newtype reads as the type that it wraps.
        Item::Struct(item) if matches!(item.fields, Fields::Unnamed(_)) => None,
        _ => Some(quote!(#[serde(deny_unknown_fields)])),
    };
    Ok(derived(options, &["Deserialize"], &quote!(#unknown_fields #item)))
}

/// Expands `#[data]` on a definition.
pub(crate) fn data(options: &Definition, item: &Item) -> syn::Result<TokenStream> {
    match item {
        Item::Struct(_) | Item::Enum(_) => {
            Ok(derived(options, &["Serialize", "Deserialize"], &quote!(#item)))
        }
        other => Err(misplaced(other, "data")),
    }
}

fn misplaced(item: &Item, attribute: &str) -> syn::Error {
    syn::Error::new_spanned(item, format!("#[{attribute}] belongs above a struct or an enum"))
}

fn derived(options: &Definition, of_serde: &[&str], item: &TokenStream) -> TokenStream {
    let (serde, schemars) = (options.root.private("serde"), options.root.private("schemars"));
    let serde_text = options.root.private_text("serde");
    let schemars_text = options.root.private_text("schemars");
    let of_serde = of_serde.iter().map(|name| {
        let name = syn::Ident::new(name, proc_macro2::Span::call_site());
        quote!(#serde::#name)
    });
    quote! {
        #[derive(#(#of_serde,)* #schemars::JsonSchema)]
        #[serde(crate = #serde_text)]
        #[schemars(crate = #schemars_text)]
        #item
    }
}
