module github.com/postrider/postrider/services/api

go 1.26.0
