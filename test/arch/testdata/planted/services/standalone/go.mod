module github.com/postrider/postrider/services/standalone

go 1.26.0
