#!/bin/sh
# Walks through the management of OffBlocks' webhooks (source 003), from uploading a key to deleting
# a webhook, with curl, openssl and coreutils alone, and checks every answer's status. Each request is
# signed as RFC 9421 says, with ECDSA on P-384. Reads from the environment:
#   BASE  URL of the deployment, such as http://127.0.0.1:8080
#   KEY   a key that may manage and read
#   HOOK  URL of a receiver
set -eu

api="$BASE/compat/offblocks"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
openssl ecparam -name secp384r1 -genkey -noout -out "$dir/key.pem"
openssl pkey -in "$dir/key.pem" -pubout -out "$dir/public.pem"
keyid=first

new_uuid() { cat /proc/sys/kernel/random/uuid; }

# signature FILE: ECDSA with SHA-384 over the file, r and s side by side, in base64.
signature() {
  openssl dgst -sha384 -sign "$dir/key.pem" -out "$dir/der" "$1"
  openssl asn1parse -inform DER -in "$dir/der" | sed -n 's/.*INTEGER *://p' | while read -r number; do
    printf '%96s' "$number" | tr ' ' 0
  done | basenc --base16 --decode | base64 --wrap 0
}

# call METHOD PATH STATUS [BODY]: signs a request, sends it and prints the answer's body. $idempotency
# is the key of a PUT or a DELETE; a new one if it is empty.
idempotency=
call() {
  components='"@method" "@target-uri"'
  printf '"@method": %s\n"@target-uri": %s\n' "$1" "$api$2" >"$dir/base"
  set -- "$1" "$2" "$3" "${4-}" --header "Authorization: Bearer $KEY"
  if [ "$1" != GET ]; then
    key=${idempotency:-$(new_uuid)}
    components="$components \"idempotency-key\""
    printf '"idempotency-key": %s\n' "$key" >>"$dir/base"
    set -- "$@" --header "Idempotency-Key: $key"
  fi
  if [ -n "$4" ]; then
    digest="sha-256=:$(printf '%s' "$4" | openssl dgst -sha256 -binary | base64 --wrap 0):"
    components="$components \"content-type\" \"content-digest\""
    printf '"content-type": application/json\n"content-digest": %s\n' "$digest" >>"$dir/base"
    set -- "$@" --header 'Content-Type: application/json' --header "Content-Digest: $digest" --data "$4"
  fi
  params="($components);created=$(date +%s);keyid=\"$keyid\";alg=\"ecdsa-p384-sha384\""
  printf '"@signature-params": %s' "$params" >>"$dir/base"
  set -- "$@" --header "Signature-Input: sig=$params" --header "Signature: sig=:$(signature "$dir/base"):"
  method=$1 path=$2 want=$3
  shift 4
  answer=$(curl --silent --show-error --request "$method" --write-out '\n%{http_code}' "$@" "$api$path")
  status=${answer##*"
"}
  if [ "$status" != "$want" ]; then
    echo "$method $path: want $want, got $answer" >&2
    exit 1
  fi
  printf '%s\n' "${answer%"
"*}"
}

keyid=$(call PUT /auth/signing 200 "{\"publicKey\":\"$(base64 --wrap 0 "$dir/public.pem")\"}" | jq --exit-status --raw-output .id)

idempotency=$(new_uuid)
created=$(call PUT /v1/webhooks 200 "{\"callbackUrl\":\"$HOOK\"}")
again=$(call PUT /v1/webhooks 200 "{\"callbackUrl\":\"$HOOK\"}")
[ "$created" = "$again" ] || {
  echo "another answer under the same key" >&2
  exit 1
}
call PUT /v1/webhooks 422 "{\"callbackUrl\":\"$HOOK\",\"types\":[\"card.updated\"]}" >/dev/null
idempotency=
id=$(printf '%s' "$created" | jq --exit-status --raw-output .id)
call PUT /v1/webhooks 200 "{\"id\":\"$id\",\"callbackUrl\":\"$HOOK\",\"types\":[\"card.updated\"]}" |
  jq --exit-status --arg id "$id" '.id == $id and .types == ["card.updated"]' >/dev/null
call PUT /v1/webhooks 400 '{}' >/dev/null

call GET /v1/webhooks 200 | jq --exit-status --arg id "$id" 'any(.[]; .id == $id)' >/dev/null
call GET "/v1/webhooks/$id" 200 | jq --exit-status '.createdAt <= .updatedAt' >/dev/null

# The key that verifies deliveries is one that openssl reads.
call GET /v1/webhooks/key 200 | jq --exit-status --raw-output .publicKey | base64 --decode |
  openssl pkey -pubin -inform DER -noout -text | grep --quiet 'ASN1 OID: secp384r1'

call DELETE "/v1/webhooks/$id" 204 >/dev/null
call GET "/v1/webhooks/$id" 404 >/dev/null
call DELETE /auth/signing 204 >/dev/null
call GET /v1/webhooks 401 >/dev/null
echo "offblocks: every answer was as the page says"
