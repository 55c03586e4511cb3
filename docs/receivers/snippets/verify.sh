#!/usr/bin/env bash
# Verify webhooks with nothing but bash and OpenSSL (1.1.1 or newer; v1a needs 3.0), for scripts and
# for looking at a recorded request by hand. A service should use another language: secrets are in the
# arguments of processes here, which others on the machine can see.
#
#   verify.sh standard|jewelmusic FILE...
#
# Each file is a request as it was recorded: request line, headers, an empty line, body. WEBHOOK_KEYS
# holds the secrets or keys in force, separated by spaces ("whsec_..." for v1, "whpk_..." for v1a, the
# texts of JewelMusic), and WEBHOOK_NOW the time to judge by, for recordings.
set -euo pipefail
export LC_ALL=C
tolerance=300 # seconds, either way

# header FILE NAME prints a header's value; several of one name are a list, as HTTP has it.
header() {
  sed '/^\r$/,$d' "$1" | awk -v want="$2" '
		NR > 1 {
			sub(/\r$/, ""); i = index($0, ":"); name = tolower(substr($0, 1, i - 1)); value = substr($0, i + 1)
			gsub(/^[ \t]+|[ \t]+$/, "", value)
			if (name == want) { all = all (n++ ? ", " : "") value }
		}
		END { printf "%s", all }'
}

# body FILE prints the bytes after the headers.
body() { sed '1,/^\r$/d' "$1"; }

hex() { od -An -v -tx1 | tr -d ' \n'; }

# hmac HEXKEY prints the HMAC-SHA256 of standard input in hexadecimal.
hmac() { openssl dgst -sha256 -mac HMAC -macopt "hexkey:$1" -binary | hex; }

# same A B compares what an attacker may try against what is right. It compares hashes under a key
# that nobody knows, so that how long it takes tells nothing.
same() {
  local key
  key=$(openssl rand -hex 32)
  [ "$(printf '%s' "$1" | hmac "$key")" = "$(printf '%s' "$2" | hmac "$key")" ]
}

standard() {
  local file=$1 id stamp list entry key given age
  id=$(header "$file" webhook-id)
  stamp=$(header "$file" webhook-timestamp)
  list=$(header "$file" webhook-signature)
  [ -n "$id" ] && [ -n "$stamp" ] && [ -n "$list" ] || refuse 'a header is missing' || return
  [[ $stamp =~ ^[0-9]{1,15}$ ]] || refuse 'the time is not now' || return
  age=$((${WEBHOOK_NOW:-$(date +%s)} - 10#$stamp))
  [ "${age#-}" -le "$tolerance" ] || refuse 'the time is not now' || return
  { printf '%s.%s.' "$id" "$stamp" && body "$file"; } >"$tmp/content"
  for entry in $list; do
    for key in $WEBHOOK_KEYS; do
      case "$entry $key" in
      v1,*" "whsec_*)
        given=$(printf '%s' "${entry#v1,}" | openssl base64 -d -A 2>/dev/null | hex)
        same "$given" "$(hmac "$(printf '%s' "${key#whsec_}" | openssl base64 -d -A | hex)" <"$tmp/content")" && return
        ;;
      v1a,*" "whpk_*)
        printf '%s' "${entry#v1a,}" | openssl base64 -d -A >"$tmp/signature" 2>/dev/null || continue
        { printf '\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00' && printf '%s' "${key#whpk_}" | openssl base64 -d -A; } >"$tmp/key"
        openssl pkeyutl -verify -rawin -pubin -keyform DER -inkey "$tmp/key" -in "$tmp/content" -sigfile "$tmp/signature" >/dev/null 2>&1 && return
        ;;
      esac
    done
  done
  refuse 'no signature matches'
}

jewelmusic() {
  local file=$1 given key
  given=$(header "$file" x-jewelmusic-signature)
  for key in $WEBHOOK_KEYS; do
    same "$given" "sha256=$(body "$file" | hmac "$(printf '%s' "$key" | hex)")" && return
  done
  refuse 'no signature matches'
}

refuse() {
  reason=$1
  return 1
}

verify() {
  case $form in
  standard) standard "$1" ;;
  jewelmusic) jewelmusic "$1" ;;
  *)
    echo "usage: verify.sh standard|jewelmusic FILE..." >&2
    exit 2
    ;;
  esac
}

form=${1-}
shift || true
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
set -f # keys and headers are words, not patterns
failed=0
for file in "$@"; do
  if verify "$file"; then
    printf '%s: genuine\n' "$file"
  else
    printf '%s: refused: %s\n' "$file" "$reason"
    failed=1
  fi
done
exit "$failed"
