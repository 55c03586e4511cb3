module github.com/postrider/postrider/proto

go 1.26.0
