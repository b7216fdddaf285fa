"""The gate report: does a policy know when, and where, to look closer?"""
