module github.com/postrider/postrider/services/router

go 1.26.0

require (
	github.com/postrider/postrider/pkg v0.0.0
	github.com/postrider/postrider/proto v0.0.0
	github.com/postrider/postrider/test/fixture v0.0.0
)

replace github.com/postrider/postrider/proto => ../../proto

replace github.com/postrider/postrider/pkg => ../../pkg

replace github.com/postrider/postrider/test/fixture => ../../test/fixture
