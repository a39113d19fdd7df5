"""Which of K classes does a picture show?"""
