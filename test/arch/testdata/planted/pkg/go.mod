module github.com/postrider/postrider/pkg

go 1.26.0
