#!/bin/sh
# Makes the certificates of the stand-ins anew: an authority, a server named localhost, a client, and servers that nobody
# should talk to: one whose time is over, one of another name. They protect nothing: the keys are public.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work" authority.key' EXIT
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }
# What it is called, whose key it has, whose name, from when to when, what else it says.
sign() {
    printf '%s\nbasicConstraints=CA:FALSE\n' "$6" > "$work/extensions"
    openssl req -new -key "$2.key" -subj "/CN=$3" -out "$work/request"
    openssl ca -batch -notext -config "$work/ca" -cert authority.pem -keyfile authority.key -rand_serial \
        -startdate "$4" -enddate "$5" -extfile "$work/extensions" -in "$work/request" -out "$1.pem"
}
: > "$work/index"
cat > "$work/ca" <<CA
[ca]
default_ca = own
[own]
database = $work/index
new_certs_dir = $work
serial = $work/serial
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
CA

key authority.key
openssl req -x509 -key authority.key -days 36500 -subj "/CN=an authority for tests" -out authority.pem \
    -addext "keyUsage=critical,keyCertSign,cRLSign"
key server.key
local='subjectAltName=DNS:localhost,IP:127.0.0.1
extendedKeyUsage=serverAuth'
sign server server localhost 20200101000000Z 21200101000000Z "$local"
sign expired server localhost 20200101000000Z 20210101000000Z "$local"
sign stranger server stranger.example 20200101000000Z 21200101000000Z 'subjectAltName=DNS:stranger.example
extendedKeyUsage=serverAuth'
key client.key
sign client client client.example 20200101000000Z 21200101000000Z 'subjectAltName=DNS:client.example
extendedKeyUsage=clientAuth'
