#!/bin/sh
# Walks through the management of the label service's webhooks (source 000), from creating one to
# deleting it, with curl alone, and checks every answer's status. Reads from the environment:
#   BASE  URL of the deployment, such as http://127.0.0.1:8080
#   KEY   a key that may manage and read
#   HOOK  URL of a receiver
set -eu

api="$BASE/compat/labelst"

# call METHOD PATH STATUS [BODY]: prints the answer's body.
call() {
  answer=$(curl --silent --show-error --request "$1" --write-out '\n%{http_code}' \
    --header "Authorization: Bearer $KEY" --header 'Content-Type: application/json' \
    ${4:+--data "$4"} "$api$2")
  status=${answer##*"
"}
  if [ "$status" != "$3" ]; then
    echo "$1 $2: want $3, got $answer" >&2
    exit 1
  fi
  printf '%s\n' "${answer%"
"*}"
}

# verify STATUS CURL-ARGUMENTS...: asks whether a token is live, as a receiver does, without a key.
verify() {
  want=$1
  shift
  status=$(curl --silent --show-error --output /dev/null --write-out '%{http_code}' --request POST "$@" "$api/verify")
  if [ "$status" != "$want" ]; then
    echo "verify: want $want, got $status" >&2
    exit 1
  fi
}

created=$(call POST /webhooks 201 "{\"name\":\"My label\",\"url\":\"$HOOK\"}")
id=$(printf '%s' "$created" | jq --exit-status --raw-output .id)
token=$(printf '%s' "$created" | jq --exit-status --raw-output .token)
printf '%s' "$created" | jq --exit-status '.name == "My label" and (.token | test("^whtok_[0-9a-f]{32}$"))' >/dev/null

call GET /webhooks 200 | jq --exit-status --arg id "$id" 'any(.webhooks[]; .id == $id)' >/dev/null
call GET "/webhooks/$id" 200 | jq --exit-status --arg token "$token" '.token == $token' >/dev/null
call POST /webhooks 400 '{"name":"No URL"}' >/dev/null

verify 200 --header 'Content-Type: application/json' --data "{\"token\": \"$token\"}"
verify 200 --data "token=$token"
verify 401 --header 'Content-Type: application/json' --data '{"token": "abc"}'

call DELETE "/webhooks/$id" 204 >/dev/null
call GET "/webhooks/$id" 404 >/dev/null
verify 401 --header 'Content-Type: application/json' --data "{\"token\": \"$token\"}"
echo "labelst: every answer was as the page says"
