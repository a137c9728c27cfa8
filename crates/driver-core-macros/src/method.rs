//! One parsed method of an interface, and the code generated for it.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::visit::Visit;
use syn::{Expr, FnArg, GenericArgument, Meta, Pat, PathArguments, ReturnType, TraitItemFn, Type};

/// What a method yields, detected from its return type.
enum Kind {
    Unary,
    Stream,
    Channel,
}

/// How an argument travels, detected from its type.
enum Carrier {
    Value,
    Source,
    Sink,
    Rest,
}

pub(crate) struct Method<'a> {
    source: &'a TraitItemFn,
    kind: Kind,
    item: Type,
    parameters: Vec<Parameter>,
}

struct Parameter {
    ident: syn::Ident,
    ty: Type,
    carrier: Carrier,
    optional: bool,
}

impl<'a> Method<'a> {
    pub(crate) fn read(source: &'a TraitItemFn) -> syn::Result<Self> {
        let signature = &source.sig;
        let wrong = |message| Err(syn::Error::new_spanned(signature, message));
        if signature.asyncness.is_none() {
            return wrong("a method of an interface is an `async fn`");
        }
        if !signature.generics.params.is_empty() {
            return Err(syn::Error::new_spanned(
                &signature.generics,
                "a method of an interface has no type parameters and no lifetimes: its arguments \
                 travel as JSON",
            ));
        }
        if !is_documented(&source.attrs) {
            return Err(syn::Error::new_spanned(
                &signature.ident,
                "a method of an interface needs a doc comment: help and reports show it",
            ));
        }
        let mut inputs = signature.inputs.iter();
        match inputs.next() {
            Some(FnArg::Receiver(receiver))
                if receiver.reference.is_some() && receiver.mutability.is_none() => {}
            Some(FnArg::Receiver(receiver)) => {
                return Err(syn::Error::new_spanned(
                    receiver,
                    "a method of an interface takes `&self`: it is called from many tasks at once",
                ));
            }
            _ => return wrong("a method of an interface takes `&self`"),
        }
        let parameters: Vec<_> = inputs.map(Parameter::read).collect::<syn::Result<_>>()?;
        if let [before @ .., _] = &parameters[..]
            && let Some(rest) = before.iter().find(|one| matches!(one.carrier, Carrier::Rest))
        {
            return Err(syn::Error::new_spanned(&rest.ty, "`Rest` is the last argument's type"));
        }
        let expected =
            "a method returns `Result<T>`, `Result<ValueStream<T>>` or `Result<Channel>`";
        let ReturnType::Type(_, output) = &signature.output else {
            return wrong(expected);
        };
        let inner = argument_of(output, "Result")
            .ok_or_else(|| syn::Error::new_spanned(output, expected))?;
        let (kind, item) = match argument_of(&inner, "ValueStream") {
            Some(item) => (Kind::Stream, item),
            None if is_named(&inner, "Channel") => (Kind::Channel, inner),
            None => (Kind::Unary, inner),
        };
        if !matches!(kind, Kind::Channel) {
            match special(&item) {
                Some("ImageSource" | "ImageSink") => {
                    return Err(syn::Error::new_spanned(
                        &item,
                        "a method does not return an image: take an `ImageSink` and write to it",
                    ));
                }
                Some(_) => return Err(syn::Error::new_spanned(output, expected)),
                None => {}
            }
        }
        Ok(Self { source, kind, item, parameters })
    }

    fn name(&self) -> String {
        self.source.sig.ident.unraw().to_string()
    }

    pub(crate) fn descriptor(&self) -> TokenStream {
        let name = self.name();
        let doc = doc_of(&self.source.attrs);
        let kind = match self.kind {
            Kind::Unary => quote!(Unary),
            Kind::Stream => quote!(Stream),
            Kind::Channel => quote!(Channel),
        };
        let item = &self.item;
        let returns = quote!(#item).to_string().replace(' ', "");
        let parameters = self.parameters.iter().map(Parameter::descriptor);
        let result = match self.kind {
            Kind::Channel => quote!(::core::option::Option::None),
            Kind::Unary | Kind::Stream => value_type(item),
        };
        quote!(__p::MethodDescriptor::new(
            #name,
            #doc,
            __p::MethodKind::#kind,
            #returns,
            &[#(#parameters),*],
            #result,
        ))
    }

    /// The adapter's arm: decode the positional arguments, call, encode the answer.
    pub(crate) fn arm(&self) -> TokenStream {
        let (name, ident) = (self.name(), &self.source.sig.ident);
        let count = self.parameters.len();
        let idents: Vec<_> = self.parameters.iter().map(|parameter| &parameter.ident).collect();
        let takes = self.parameters.iter().map(|parameter| {
            let (ident, ty) = (&parameter.ident, &parameter.ty);
            match parameter.carrier {
                Carrier::Value => quote!(let #ident: #ty = __arguments.value()?;),
                Carrier::Source => quote!(let #ident: #ty = __arguments.source()?;),
                Carrier::Sink => quote!(let #ident: #ty = __arguments.sink()?;),
                Carrier::Rest => quote!(let #ident: #ty = __arguments.rest()?;),
            }
        });
        let reply = match self.kind {
            Kind::Unary => quote!(__p::Reply::value(self.#ident(#(#idents),*).await?)),
            Kind::Stream => quote!(Ok(__p::Reply::stream(self.#ident(#(#idents),*).await?))),
            Kind::Channel => quote!(Ok(__p::Reply::Channel(self.#ident(#(#idents),*).await?))),
        };
        quote! {
            #name => {
                #[allow(unused_mut, unused_variables, reason = "a method may have no parameters")]
                let mut __arguments = __arguments.decoder(Self::DESCRIPTOR, __method, #count)?;
                #(#takes)*
                #reply
            }
        }
    }

    /// The proxy's method: encode the arguments, call over the caller, decode the answer.
    pub(crate) fn remote(&self) -> TokenStream {
        let (signature, name) = (&self.source.sig, self.name());
        let pushes = self.parameters.iter().map(|parameter| {
            let ident = &parameter.ident;
            match parameter.carrier {
                Carrier::Value => quote!(__arguments.push_value(&#ident)?;),
                Carrier::Source => quote!(__arguments.push_source(#ident);),
                Carrier::Sink => quote!(__arguments.push_sink(#ident);),
                Carrier::Rest => quote!(__arguments.push_rest(&#ident)?;),
            }
        });
        let (kind, finish) = match self.kind {
            Kind::Unary => (quote!(Unary), quote!(__reply.into_value())),
            Kind::Stream => (quote!(Stream), quote!(__reply.into_stream())),
            Kind::Channel => (quote!(Channel), quote!(__reply.into_channel())),
        };
        quote! {
            #signature {
                #[allow(unused_mut, reason = "a method may have no parameters")]
                let mut __arguments = __p::Arguments::new();
                #(#pushes)*
                let __reply = self
                    .0
                    .invoke_interface(__DESCRIPTOR, #name, __p::MethodKind::#kind, __arguments)
                    .await?;
                #finish
            }
        }
    }
}

impl Parameter {
    fn read(input: &FnArg) -> syn::Result<Self> {
        let FnArg::Typed(typed) = input else {
            return Err(syn::Error::new_spanned(input, "expected a named argument"));
        };
        let Pat::Ident(pattern) = &*typed.pat else {
            return Err(syn::Error::new_spanned(
                &typed.pat,
                "expected a plain name: callers and help name the argument by it",
            ));
        };
        let ty = (*typed.ty).clone();
        let wrong = |message: &str| Err(syn::Error::new_spanned(&ty, message));
        match &ty {
            Type::Reference(reference) if is_named(&reference.elem, "str") => {
                return wrong("arguments travel by value: take a `String`");
            }
            Type::Reference(_) => return wrong("arguments travel by value: take an owned type"),
            Type::ImplTrait(_) => return wrong("arguments travel as JSON: name a type"),
            _ => {}
        }
        let carrier = if is_named(&ty, "ImageSource") {
            Carrier::Source
        } else if is_named(&ty, "ImageSink") {
            Carrier::Sink
        } else if argument_of(&ty, "Rest").is_some() {
            Carrier::Rest
        } else {
            match special(&ty) {
                Some("ImageSource" | "ImageSink") => {
                    return wrong(
                        "an image is an argument by itself: take an `ImageSource` or an `ImageSink`",
                    );
                }
                Some(_) => {
                    return wrong(
                        "an argument is a value or an image: a method that returns \
                         `Result<Channel>` opens a channel",
                    );
                }
                None => Carrier::Value,
            }
        };
        let optional = matches!(carrier, Carrier::Rest) || argument_of(&ty, "Option").is_some();
        Ok(Self { ident: pattern.ident.clone(), ty, carrier, optional })
    }

    fn descriptor(&self) -> TokenStream {
        let (name, optional, ty) = (self.ident.unraw().to_string(), self.optional, &self.ty);
        let type_name = quote!(#ty).to_string().replace(' ', "");
        let none = quote!(::core::option::Option::None);
        let (carrier, value) = match self.carrier {
            Carrier::Value => {
                let given = argument_of(ty, "Option").unwrap_or_else(|| ty.clone());
                (quote!(Value), value_type(&given))
            }
            Carrier::Source => (quote!(Source), none),
            Carrier::Sink => (quote!(Sink), none),
            Carrier::Rest => {
                let each = argument_of(ty, "Rest").unwrap_or_else(|| ty.clone());
                (quote!(Rest), value_type(&each))
            }
        };
        quote!(__p::ParameterDescriptor::new(
            #name,
            #type_name,
            __p::ParameterKind::#carrier,
            #optional,
            #value,
        ))
    }
}

fn value_type(ty: &Type) -> TokenStream {
    quote!(::core::option::Option::Some(__p::ValueType::of::<#ty>()))
}

fn is_named(ty: &Type, name: &str) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|segment| segment.ident == name))
}

/// `T` of `Name<T>`.
fn argument_of(ty: &Type, name: &str) -> Option<Type> {
    let Type::Path(path) = ty else { return None };
    let segment = path.path.segments.last()?;
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return None };
    match arguments.args.first()? {
        GenericArgument::Type(inner) if segment.ident == name => Some(inner.clone()),
        _ => None,
    }
}

/// The first part of a type, at any depth, that does not travel as JSON.
fn special(ty: &Type) -> Option<&'static str> {
    struct Found(Option<&'static str>);
    impl Visit<'_> for Found {
        fn visit_path_segment(&mut self, segment: &syn::PathSegment) {
            let names = ["ImageSource", "ImageSink", "Channel", "ValueStream"];
            self.0 = self.0.or(names.into_iter().find(|name| segment.ident == name));
            syn::visit::visit_path_segment(self, segment);
        }
    }
    let mut found = Found(None);
    found.visit_type(ty);
    found.0
}

pub(crate) fn is_documented(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| attribute.path().is_ident("doc"))
}

pub(crate) fn doc_of(attributes: &[syn::Attribute]) -> String {
    let lines: Vec<String> = attributes
        .iter()
        .filter_map(|attribute| match &attribute.meta {
            Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
                Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => {
                    Some(text.value().trim_start().to_owned())
                }
                _ => None,
            },
            _ => None,
        })
        .collect();
    lines.join("\n").trim().to_owned()
}
