#!/bin/sh
# Walks through Ingedata's management API (source 004), from the login to deleting a webhook, with
# curl alone, and checks every answer's status. Reads from the environment:
#   BASE   URL of the deployment, such as http://127.0.0.1:8080
#   KEY    a key that may manage and read, of an account whose catalogue has EVENT
#   HOOK   URL of a receiver that answers 200
#   EVENT  an event type, such as release.created
set -eu

api="$BASE/api/v3"
type="notification/webhooks"

# call METHOD PATH STATUS [BODY]: prints the answer's body.
call() {
  answer=$(curl --silent --show-error --globoff --request "$1" --write-out '\n%{http_code}' \
    --header "Authorization: Bearer ${token:-}" --header 'Content-Type: application/vnd.api+json' \
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

call GET /$type 401 | jq --exit-status '.errors[0].status == "401"' >/dev/null
token=$(call POST /iam/auth/api/login 200 "{\"key\":\"$KEY\"}" | jq --exit-status --raw-output .meta.token)

call GET /$type/events 200 | jq --exit-status --arg event "$EVENT" 'any(.data[]; .id == $event)' >/dev/null

created=$(call POST /$type 201 "{\"data\":{\"type\":\"$type\",\"attributes\":{\"name\":\"prod\",\"url\":\"$HOOK\",\"secret\":\"s3cr3t\",\"events\":[\"$EVENT\"],\"scopes\":{\"project_id\":[12]}}}}")
id=$(printf '%s' "$created" | jq --exit-status --raw-output .data.id)
printf '%s' "$created" | jq --exit-status '.data.type == "notification/webhooks" and (.data.attributes.id | tostring) == .data.id
	and .data.attributes.secret == "s3cr3t" and .data.attributes.scopes == {"project_id": [12]}' >/dev/null
call POST /$type 422 "{\"data\":{\"type\":\"$type\",\"attributes\":{}}}" |
  jq --exit-status '[.errors[].source.pointer] | sort == ["/data/attributes/events", "/data/attributes/url"]' >/dev/null

call GET "/$type?page[number]=1&page[size]=10&sort=-created_at,name&count=true&filter[name__match]=PRO&fields[$type]=name,url" 200 |
  jq --exit-status --arg id "$id" '.meta.count >= 1 and any(.data[]; .id == $id and (.attributes | keys) == ["name", "url"])' >/dev/null
call GET "/$type?filter[id][]=$id&fields[$type][]=name&fields[$type][]=events" 200 | jq --exit-status '.data | length == 1' >/dev/null
call GET "/$type?filter[nothing]=1" 400 | jq --exit-status '.errors[0].source.parameter == "filter[nothing]"' >/dev/null
call GET "/$type?page[size]=1001" 422 >/dev/null

call GET "/$type/$id" 200 | jq --exit-status '.data.attributes.name == "prod"' >/dev/null
call PATCH "/$type/$id" 200 "{\"data\":{\"type\":\"$type\",\"attributes\":{\"name\":\"renamed\",\"scopes\":{}}}}" |
  jq --exit-status '.data.attributes.name == "renamed" and .data.attributes.scopes == {"project_id": [12]}' >/dev/null
call POST "/$type/test/$id" 200 | jq --exit-status '.success and (.message | length > 0)' >/dev/null

call DELETE "/$type/$id" 204 >/dev/null
call GET "/$type/$id" 404 >/dev/null
call DELETE "/$type/$id" 404 >/dev/null
echo "ingedata: every answer was as the page says"
