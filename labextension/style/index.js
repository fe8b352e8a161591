import './base.css';
import './gauge.css';
