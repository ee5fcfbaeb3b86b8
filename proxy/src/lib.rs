//! The program `pgherd`: joins the rest of the house.
