#!/bin/sh
# Makes the certificates of the stand-ins anew: an authority, a server named localhost, a client. They protect nothing:
# the keys are public.
set -eu
cd "$(dirname "$0")"
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }
sign() {
    openssl req -new -key "$1.key" -subj "/CN=$2" |
        openssl x509 -req -CA authority.pem -CAkey authority.key -days 36500 -extfile "$3" -out "$1.pem"
}
extensions=$(mktemp)
trap 'rm -f "$extensions" authority.key' EXIT

key authority.key
openssl req -x509 -key authority.key -days 36500 -subj "/CN=an authority for tests" -out authority.pem \
    -addext "keyUsage=critical,keyCertSign,cRLSign"
key server.key
printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n' > "$extensions"
sign server localhost "$extensions"
key client.key
printf 'subjectAltName=DNS:client.example\nextendedKeyUsage=clientAuth\nbasicConstraints=CA:FALSE\n' > "$extensions"
sign client client.example "$extensions"
