# What the entry point of the official image does: it makes the database that the variables name, once,
# lets in who they say, and becomes the server.
set -e
if [ ! -s "$PGDATA/PG_VERSION" ]; then
	initdb -D "$PGDATA" -U "$POSTGRES_USER" --auth-local=trust --auth-host="$POSTGRES_HOST_AUTH_METHOD" --no-sync -E UTF8 --locale=C
	echo "host all all all $POSTGRES_HOST_AUTH_METHOD" >>"$PGDATA/pg_hba.conf"
	echo "CREATE DATABASE \"$POSTGRES_USER\"" | postgres --single -D "$PGDATA" -j postgres
fi
exec postgres -c listen_addresses='*' "$@"
