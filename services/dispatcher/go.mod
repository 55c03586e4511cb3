module github.com/postrider/postrider/services/dispatcher

go 1.26.0

require (
	github.com/postrider/postrider/pkg v0.0.0
	github.com/postrider/postrider/proto v0.0.0
	github.com/postrider/postrider/test/fixture v0.0.0
	github.com/stretchr/testify v1.12.1
	go.uber.org/goleak v1.3.0
	pgregory.net/rapid v1.3.0
)

replace (
	github.com/postrider/postrider/pkg => ../../pkg
	github.com/postrider/postrider/proto => ../../proto
	github.com/postrider/postrider/test/fixture => ../../test/fixture
)
