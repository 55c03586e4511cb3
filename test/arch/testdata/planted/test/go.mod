module github.com/postrider/postrider/test

go 1.26.0
