"""What each interceptor costs."""
