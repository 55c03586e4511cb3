#!/bin/sh
# Walks through the management API of JewelMusic's SDKs (source 001), from creating a webhook to
# deleting it, with curl alone, and checks every answer's status and envelope. Reads from the
# environment:
#   BASE  URL of the deployment, such as http://127.0.0.1:8080
#   KEY   a key that may manage and read
#   HOOK  URL of a receiver that answers 200
set -eu

api="$BASE/compat/jewelmusic/v1"

# call METHOD PATH STATUS [BODY]: prints the data of the answer.
call() {
  answer=$(curl --silent --show-error --request "$1" --write-out '\n%{http_code}' \
    --header "Authorization: Bearer $KEY" --header 'Content-Type: application/json' \
    ${4:+--data "$4"} "$api$2")
  status=${answer##*"
"}
  body=${answer%"
"*}
  if [ "$status" != "$3" ]; then
    echo "$1 $2: want $3, got $answer" >&2
    exit 1
  fi
  if [ "$status" != 204 ]; then
    printf '%s' "$body" | jq --exit-status --argjson status "$status" \
      '.success == ($status < 300) and (.meta.timestamp | length > 0) and (.meta.request_id | length > 0)' >/dev/null
    printf '%s' "$body" | jq .data
  fi
}

call GET /webhooks/events 200 | jq --exit-status 'type == "array"' >/dev/null

created=$(call POST /webhooks 201 "{\"url\":\"$HOOK\",\"events\":[\"release.live\",\"track.uploaded\"],\"description\":\"Main app\"}")
id=$(printf '%s' "$created" | jq --exit-status --raw-output .id)
printf '%s' "$created" | jq --exit-status '.active and .timeout == 30000 and (.secret | length > 0)' >/dev/null
call POST /webhooks 422 '{"url":"nowhere","events":[]}' >/dev/null

call GET /webhooks 200 | jq --exit-status --arg id "$id" 'any(.items[]; .id == $id) and .pagination.total >= 1' >/dev/null
call GET "/webhooks/$id" 200 | jq --exit-status '.description == "Main app"' >/dev/null
call PUT "/webhooks/$id" 200 '{"events":["release.live"],"timeout":5000}' | jq --exit-status '.events == ["release.live"] and .timeout == 5000' >/dev/null
call PUT "/webhooks/$id/status" 200 '{"active":false}' | jq --exit-status '.active | not' >/dev/null
call PUT "/webhooks/$id/status" 200 '{"active":true}' | jq --exit-status .active >/dev/null
call PUT "/webhooks/$id/secret" 200 '{"secret":"my_webhook_secret_123"}' | jq --exit-status '.secret == "my_webhook_secret_123"' >/dev/null
call POST "/webhooks/$id/test" 200 '{"eventType":"release.live"}' | jq --exit-status '.success and .responseStatus == 200' >/dev/null
call GET "/webhooks/$id/deliveries" 200 | jq --exit-status '.items | type == "array"' >/dev/null
call GET "/webhooks/$id/deliveries/dlv_none" 404 >/dev/null
call POST "/webhooks/$id/deliveries/dlv_none/redeliver" 404 >/dev/null
call GET "/webhooks/$id/stats" 200 | jq --exit-status '.totalDeliveries == 0' >/dev/null

remaining=$(curl --silent --show-error --output /dev/null --dump-header - --header "Authorization: Bearer $KEY" "$api/webhooks" |
  tr -d '\r' | awk 'tolower($1) == "x-ratelimit-remaining:" { print $2 }')
[ "$remaining" -gt 0 ]

call DELETE "/webhooks/$id" 204
call GET "/webhooks/$id" 404 >/dev/null
echo "jewelmusic: every answer was as the SDKs expect"
