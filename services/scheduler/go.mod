module github.com/postrider/postrider/services/scheduler

go 1.26.0

require (
	github.com/postrider/postrider/pkg v0.0.0
	github.com/redis/go-redis/v9 v9.23.0
	github.com/stretchr/testify v1.12.1
	pgregory.net/rapid v1.3.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/oklog/ulid/v2 v2.1.2 // indirect
	go.uber.org/atomic v1.12.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace (
	github.com/postrider/postrider/pkg => ../../pkg
	github.com/postrider/postrider/proto => ../../proto
	github.com/postrider/postrider/test/fixture => ../../test/fixture
)
