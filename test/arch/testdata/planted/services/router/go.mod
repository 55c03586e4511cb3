module github.com/postrider/postrider/services/router

go 1.26.0
