//! The `#[interface]` attribute: one trait definition yields the trait, its method table,
//! its server adapter and its remote proxy. Documented in `jumpstarter_driver_core::interface`.

use quote::quote;
use syn::punctuated::Punctuated;
use syn::{
    Expr, FnArg, GenericArgument, ItemTrait, LitStr, Meta, Pat, PathArguments, ReturnType, Token,
    TraitItem, TraitItemFn, Type, parse_macro_input,
};

/// Turns an async trait into a Jumpstarter interface; see `jumpstarter_driver_core::interface`.
///
/// Arguments: `name = "power"` (how people and reports name the interface), `client =
/// "python.import.path"` (the Python client class that drives it), `also = ["…"]` (further such
/// classes, whose drivers have all its methods) and `native` (Python exporters never have it,
/// whatever client class they name).
#[proc_macro_attribute]
pub fn interface(
    attribute: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    let mut options = Options::default();
    let parser = syn::meta::parser(|meta| {
        let value = || meta.value()?.parse::<LitStr>();
        if meta.path.is_ident("name") {
            options.name = Some(value()?);
        } else if meta.path.is_ident("client") {
            options.client = Some(value()?);
        } else if meta.path.is_ident("also") {
            let value = meta.value()?;
            let listed;
            syn::bracketed!(listed in value);
            options.also =
                Punctuated::<LitStr, Token![,]>::parse_terminated(&listed)?.into_iter().collect();
        } else if meta.path.is_ident("native") {
            options.native = true;
        } else {
            return Err(meta
                .error("expected `name = \"…\"`, `client = \"…\"`, `also = [\"…\"]` or `native`"));
        }
        Ok(())
    });
    parse_macro_input!(attribute with parser);
    let definition = parse_macro_input!(item as ItemTrait);
    expand(options, definition).unwrap_or_else(syn::Error::into_compile_error).into()
}

#[derive(Default)]
struct Options {
    name: Option<LitStr>,
    client: Option<LitStr>,
    also: Vec<LitStr>,
    native: bool,
}

/// What a method yields, told from its return type.
enum Kind {
    Unary,
    Stream,
    Channel,
}

/// How an argument travels, told from its type.
enum Carrier {
    Value,
    Source,
    Sink,
}

fn expand(options: Options, mut definition: ItemTrait) -> syn::Result<proc_macro2::TokenStream> {
    let ident = definition.ident.clone();
    let missing = |what| syn::Error::new(ident.span(), format!("#[interface] needs {what}"));
    let name = options.name.ok_or_else(|| missing("name = \"…\""))?;
    let client = options.client.ok_or_else(|| missing("client = \"…\""))?;
    let (also, native) = (options.also, options.native);
    let trait_doc = doc_of(&definition.attrs);

    let mut descriptors = Vec::new();
    let mut arms = Vec::new();
    let mut remotes = Vec::new();
    for item in &definition.items {
        let TraitItem::Fn(method) = item else {
            return Err(syn::Error::new_spanned(item, "an interface has methods only"));
        };
        let parts = Method::read(method)?;
        descriptors.push(parts.descriptor());
        arms.push(parts.arm());
        remotes.push(parts.remote());
    }

    definition.supertraits.push(syn::parse_quote!(::core::marker::Send));
    definition.supertraits.push(syn::parse_quote!(::core::marker::Sync));
    Ok(quote! {
        #[::jumpstarter_driver_core::__private::async_trait]
        #definition

        const _: () = {
            use ::jumpstarter_driver_core::__private as __p;

            impl __p::Interface for dyn #ident {
                const DESCRIPTOR: &'static __p::InterfaceDescriptor = &__p::InterfaceDescriptor {
                    name: #name,
                    client: #client,
                    further_clients: &[#(#also),*],
                    native: #native,
                    documentation: #trait_doc,
                    methods: &[#(#descriptors),*],
                };

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

/// One method of the trait, taken apart.
struct Method<'a> {
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
    fn read(source: &'a TraitItemFn) -> syn::Result<Self> {
        if source.sig.asyncness.is_none() {
            return Err(syn::Error::new_spanned(
                &source.sig,
                "a method of an interface is `async fn`",
            ));
        }
        let mut inputs = source.sig.inputs.iter();
        match inputs.next() {
            Some(FnArg::Receiver(receiver))
                if receiver.reference.is_some() && receiver.mutability.is_none() => {}
            _ => {
                return Err(syn::Error::new_spanned(
                    &source.sig,
                    "a method of an interface takes `&self`",
                ));
            }
        }
        let parameters = inputs.map(Parameter::read).collect::<syn::Result<_>>()?;
        let expected = "a method returns Result<T>, Result<ValueStream<T>> or Result<Channel>";
        let ReturnType::Type(_, output) = &source.sig.output else {
            return Err(syn::Error::new_spanned(&source.sig, expected));
        };
        let inner = argument_of(output, "Result")
            .ok_or_else(|| syn::Error::new_spanned(output, expected))?;
        let (kind, item) = match argument_of(&inner, "ValueStream") {
            Some(item) => (Kind::Stream, item),
            None if is_named(&inner, "Channel") => (Kind::Channel, inner),
            None => (Kind::Unary, inner),
        };
        Ok(Self { source, kind, item, parameters })
    }

    fn name(&self) -> String {
        self.source.sig.ident.to_string().trim_start_matches("r#").to_owned()
    }

    fn descriptor(&self) -> proc_macro2::TokenStream {
        let name = self.name();
        let doc = doc_of(&self.source.attrs);
        let kind = match self.kind {
            Kind::Unary => quote!(Unary),
            Kind::Stream => quote!(Stream),
            Kind::Channel => quote!(Channel),
        };
        let item = &self.item;
        let returns = quote!(#item).to_string().replace(' ', "");
        let parameters = self.parameters.iter().map(|parameter| {
            let (name, optional, ty) = (parameter.ident.to_string(), parameter.optional, &parameter.ty);
            let type_name = quote!(#ty).to_string().replace(' ', "");
            let carrier = match parameter.carrier {
                Carrier::Value => quote!(Value),
                Carrier::Source => quote!(Source),
                Carrier::Sink => quote!(Sink),
            };
            quote!(__p::ParameterDescriptor {
                name: #name, type_name: #type_name, kind: __p::ParameterKind::#carrier, optional: #optional,
            })
        });
        let typed = match self.kind {
            Kind::Channel => quote!(::core::convert::identity),
            Kind::Unary | Kind::Stream => quote!(__p::typed::<#item>),
        };
        quote!(__p::MethodDescriptor {
            name: #name, documentation: #doc, kind: __p::MethodKind::#kind, returns: #returns,
            parameters: &[#(#parameters),*], typed: #typed,
        })
    }

    /// The adapter's arm: decode the positional arguments, call, encode the answer.
    fn arm(&self) -> proc_macro2::TokenStream {
        let (name, ident) = (self.name(), &self.source.sig.ident);
        let count = self.parameters.len();
        let idents: Vec<_> = self.parameters.iter().map(|parameter| &parameter.ident).collect();
        let takes = self.parameters.iter().map(|parameter| {
            let (ident, ty) = (&parameter.ident, &parameter.ty);
            match parameter.carrier {
                Carrier::Value => quote!(let #ident: #ty = __arguments.value()?;),
                Carrier::Source => quote!(let #ident: #ty = __arguments.source()?;),
                Carrier::Sink => quote!(let #ident: #ty = __arguments.sink()?;),
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
    fn remote(&self) -> proc_macro2::TokenStream {
        let (signature, name) = (&self.source.sig, self.name());
        let pushes = self.parameters.iter().map(|parameter| {
            let ident = &parameter.ident;
            match parameter.carrier {
                Carrier::Value => quote!(__arguments.push_value(&#ident)?;),
                Carrier::Source => quote!(__arguments.push_source(#ident);),
                Carrier::Sink => quote!(__arguments.push_sink(#ident);),
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
            return Err(syn::Error::new_spanned(&typed.pat, "expected a plain argument name"));
        };
        if matches!(&*typed.ty, Type::Reference(_)) {
            return Err(syn::Error::new_spanned(
                &typed.ty,
                "arguments travel by value: use an owned type",
            ));
        }
        let ty = (*typed.ty).clone();
        let carrier = if is_named(&ty, "ImageSource") {
            Carrier::Source
        } else if is_named(&ty, "ImageSink") {
            Carrier::Sink
        } else {
            Carrier::Value
        };
        let optional = argument_of(&ty, "Option").is_some();
        Ok(Self { ident: pattern.ident.clone(), ty, carrier, optional })
    }
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

fn doc_of(attributes: &[syn::Attribute]) -> String {
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
