"""The service behind the page Models in Airflow: what is desired, what is served, and what every champion answers. It changes nothing."""
