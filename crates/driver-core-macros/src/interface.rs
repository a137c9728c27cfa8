//! `#[interface]`: the trait, its method table, its adapter and its proxy.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{ItemTrait, TraitItem};

use crate::method::{Method, doc_of, is_documented};
use crate::options::Interface;

/// Expands `#[interface]` on a trait.
pub(crate) fn expand(options: Interface, mut definition: ItemTrait) -> syn::Result<TokenStream> {
    let ident = definition.ident.clone();
    let mut errors = Errors::default();
    for (given, form) in [(&options.name, "name = \"…\""), (&options.client, "client = \"…\"")]
    {
        if given.is_none() {
            errors.add(syn::Error::new_spanned(&ident, format!("#[interface] needs {form}")));
        }
    }
    if !definition.generics.params.is_empty() {
        errors.add(syn::Error::new_spanned(
            &definition.generics,
            "an interface has no type parameters and no lifetimes",
        ));
    }
    if !is_documented(&definition.attrs) {
        errors.add(syn::Error::new_spanned(
            &ident,
            "an interface needs a doc comment: help and reports show it",
        ));
    }
    let mut methods = Vec::new();
    for item in &definition.items {
        match item {
            TraitItem::Fn(method) => match Method::read(method) {
                Ok(method) => methods.push(method),
                Err(error) => errors.add(error),
            },
            other => errors.add(syn::Error::new_spanned(other, "an interface has methods only")),
        }
    }
    errors.none()?;

    let (name, client, also, native) = (options.name, options.client, options.also, options.native);
    let (trait_doc, root) = (doc_of(&definition.attrs), options.root.path());
    let async_trait = options.root.private("async_trait");
    let descriptors: Vec<_> = methods.iter().map(Method::descriptor).collect();
    let arms: Vec<_> = methods.iter().map(Method::arm).collect();
    let remotes: Vec<_> = methods.iter().map(Method::remote).collect();
    definition.supertraits.push(syn::parse_quote!(::core::marker::Send));
    definition.supertraits.push(syn::parse_quote!(::core::marker::Sync));
    Ok(quote! {
        #[#async_trait]
        #definition

        const _: () = {
            use #root::__private as __p;

            impl __p::Sealed for dyn #ident {}

            impl __p::Interface for dyn #ident {
                const DESCRIPTOR: &'static __p::InterfaceDescriptor =
                    &__p::InterfaceDescriptor::new(
                        #name,
                        #client,
                        #trait_doc,
                        &[#(#descriptors),*],
                    )
                    .also(&[#(#also),*])
                    .native(#native);

                fn call<'a>(
                    &'a self,
                    __method: &'a str,
                    __arguments: __p::Arguments,
                ) -> __p::BoxFuture<'a, __p::Result<__p::Reply>> {
                    ::std::boxed::Box::pin(async move {
                        match __method {
                            #(#arms)*
                            _ => Err(__p::unknown_method(Self::DESCRIPTOR, __method)),
                        }
                    })
                }

                fn remote(caller: ::std::sync::Arc<dyn __p::Caller>) -> ::std::sync::Arc<Self> {
                    ::std::sync::Arc::new(__Remote(caller))
                }
            }

            __p::inventory::submit! { __p::LinkedInterface(__DESCRIPTOR) }

            const __DESCRIPTOR: &__p::InterfaceDescriptor =
                <dyn #ident as __p::Interface>::DESCRIPTOR;

            struct __Remote(::std::sync::Arc<dyn __p::Caller>);

            #[__p::async_trait]
            #[deny(clippy::missing_trait_methods)]
            impl #ident for __Remote {
                #(#remotes)*
            }
        };
    })
}

/// All errors of a definition, reported together.
#[derive(Default)]
struct Errors(Option<syn::Error>);

impl Errors {
    fn add(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(first) => first.combine(error),
            None => self.0 = Some(error),
        }
    }

    fn none(self) -> syn::Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}
