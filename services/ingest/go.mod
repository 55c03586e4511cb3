module github.com/postrider/postrider/services/ingest

go 1.26.0

require (
	github.com/oklog/ulid/v2 v2.1.2
	github.com/postrider/postrider/pkg v0.0.0
	github.com/postrider/postrider/proto v0.0.0
	github.com/postrider/postrider/test/fixture v0.0.0
	github.com/redis/go-redis/v9 v9.23.0
	github.com/stretchr/testify v1.12.1
	go.uber.org/goleak v1.3.0
	google.golang.org/protobuf v1.36.12
	pgregory.net/rapid v1.3.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/grpc-ecosystem/grpc-gateway/v2 v2.32.0 // indirect
	go.uber.org/atomic v1.12.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/genproto/googleapis/api v0.0.0-20261019180522-ce908d29299b // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20261019180522-ce908d29299b // indirect
	google.golang.org/grpc v1.85.0 // indirect
)

replace (
	github.com/postrider/postrider/pkg => ../../pkg
	github.com/postrider/postrider/proto => ../../proto
	github.com/postrider/postrider/test/fixture => ../../test/fixture
)
