module github.com/postrider/postrider/test

go 1.26.0

require github.com/stretchr/testify v1.12.1

require (
	github.com/postrider/postrider/pkg v0.0.0
	github.com/postrider/postrider/proto v0.0.0
	github.com/postrider/postrider/test/fixture v0.0.0
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)

replace github.com/postrider/postrider/proto => ../proto

replace github.com/postrider/postrider/pkg => ../pkg

replace github.com/postrider/postrider/test/fixture => ./fixture
