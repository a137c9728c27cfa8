//! The code that the attributes generate, as text.

use quote::quote;
use syn::parse_quote;

use crate::{definition, interface, options};

fn lamp(options: options::Interface) -> String {
    let definition = parse_quote! {
        /// A lamp with a colour.
        pub trait Lamp {
            /// Lights it.
            async fn light(&self, colour: String) -> Result<bool>;
        }
    };
    interface::expand(options, definition).expect("it is right").to_string()
}

fn read<O: Default>(
    read: impl Fn(&mut O, &syn::meta::ParseNestedMeta<'_>) -> syn::Result<()>,
    arguments: proc_macro2::TokenStream,
) -> O {
    let mut options = O::default();
    let parser = syn::meta::parser(|meta| read(&mut options, &meta));
    syn::parse::Parser::parse2(parser, arguments).expect("they are right");
    options
}

const OWN: &str = "jumpstarter_driver_core";

#[test]
fn an_interface_names_the_given_crate_only() {
    let arguments = quote!(name = "lamp", client = "acme.Lamp");
    let by_default = lamp(read(options::Interface::read, arguments.clone()));
    assert!(by_default.contains(OWN), "{by_default}");
    let given = quote!(#arguments, crate = ::jumpstarter::driver_core);
    let elsewhere = lamp(read(options::Interface::read, given));
    assert!(!elsewhere.contains(OWN), "{elsewhere}");
    assert!(elsewhere.contains(":: jumpstarter :: driver_core :: __private"), "{elsewhere}");
}

#[test]
fn definitions_name_the_given_crate_only() {
    let options = || read(options::Definition::read, quote!(crate = jumpstarter::driver_core));
    let item: syn::Item = parse_quote!(
        struct Colour {
            /// The name on the lamp's label.
            name: String,
        }
    );
    for made in [
        definition::config(&options(), item.clone()).expect("it is right").to_string(),
        definition::data(&options(), &item).expect("it is right").to_string(),
    ] {
        assert!(!made.contains(OWN), "{made}");
        assert!(made.contains("crate = \"jumpstarter::driver_core::__private::serde\""), "{made}");
    }
}
